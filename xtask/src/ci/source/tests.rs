use super::*;

#[test]
fn comments_and_literals_are_blanked_line_for_line() {
    let text = "let a = \"unsafe \\\" x\"; // unsafe\n/* unsafe /* nested */ unsafe */ let b = r#\"unsafe \" x\"#;\nlet c = b\"unsafe\";";
    let code = code_only(text);
    assert_eq!(line_of_word(&code, "unsafe"), None, "{code}");
    assert_eq!(code.lines().count(), 3);
    assert!(code.contains("let a =") && code.contains("let b =") && code.contains("let c ="), "{code}");
}

#[test]
fn code_after_quotes_lifetimes_and_raw_identifiers_is_seen() {
    for text in [
        "let q = '\"'; unsafe { x }",
        "let q = '\\''; unsafe { x }",
        "fn f<'a>(x: &'a str) { unsafe { x } }",
        "let r#type = 1; unsafe { x }",
        "let bar = for_r(1); unsafe { x }",
        "let s = \"\\\\\"; unsafe { x }",
        "let s = r\"\\\"; unsafe { x }",
    ] {
        assert_eq!(line_of_word(&code_only(text), "unsafe"), Some(1), "{text}");
    }
}

#[test]
fn unfinished_literals_end_with_the_text() {
    for text in ["\"open", "/* open", "r#\"open", "'\\", "'"] {
        let _ = code_only(text);
    }
}

#[test]
fn a_word_is_not_found_within_another() {
    assert_eq!(line_of_word("unsafe_code\nis_unsafe\n", "unsafe"), None);
    assert_eq!(line_of_word("unsafe_code\nis unsafe\n", "unsafe"), Some(2));
}

#[test]
fn use_trees_are_written_out() {
    let code = "use std::{fs, io::{self, Read as R}, net::IpAddr};\npub use crate::wire::*;\nreuse x;\n";
    assert_eq!(
        used_paths(code),
        ["std::fs", "std::io::self", "std::io::Read", "std::net::IpAddr", "crate::wire::*"]
    );
}

#[test]
fn tests_are_told_from_what_they_test() {
    assert!(Source::new("colo-user/src/wire/tests.rs", "").is_test());
    assert!(Source::new("tests/src/lib.rs", "").is_test());
    assert!(Source::new("colo-user/src/compare/tests/tcp.rs", "").is_test());
    assert!(!Source::new("colo-user/src/wire.rs", "").is_test());
}

#[test]
fn literals_stay_where_only_comments_leave() {
    let text = "run(\"a // b\", /* \"c\" */ r#\"d\"#); // é \"e\"\nx";
    let (code, kept) = (code_only(text), without_comments(text));
    assert_eq!((code.len(), kept.len()), (text.len(), text.len()));
    assert_eq!(kept.trim_end(), "run(\"a // b\",           r#\"d\"#);          \nx");
    assert!(!code.contains('"'), "{code}");
}

#[test]
fn literals_have_the_value_that_the_compiler_gives_them() {
    let value = |text: &str| literal(text).map(|(value, length)| (value, text[length..].to_owned()));
    let of = |value: &str, rest: &str| Some((value.to_owned(), rest.to_owned()));
    assert_eq!(value("\"a\\tb\\\"c\\\\\", d"), of("a\tb\"c\\", ", d"));
    assert_eq!(value("r#\"a\\n\"b\"#.x"), of("a\\n\"b", ".x"));
    assert_eq!(value("\"one \\\n   two\""), of("one two", ""));
    assert_eq!(value("run"), None);
    assert_eq!(value("x\"a\""), None);
}
