use super::*;

/// The names of all elements in the order of their beginning; what is not well-formed XML of the plain sort that is
/// written here (no comments, no CDATA) is an error that says where.
fn elements(document: &str) -> Result<Vec<String>, String> {
    let body =
        document.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").ok_or("no declaration")?;
    let (mut names, mut open, mut rest, mut roots) = (Vec::new(), Vec::new(), body, 0);
    while let Some(at) = rest.find('<') {
        characters(&rest[..at], open.is_empty())?;
        let end = rest[at..].find('>').ok_or_else(|| format!("no end: {}", &rest[at..]))? + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop().as_deref() != Some(name) {
                return Err(format!("</{name}> closes nothing"));
            }
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        if name.is_empty() || !name.chars().all(char::is_alphanumeric) {
            return Err(format!("a name {name:?}"));
        }
        attributes_of(attributes)?;
        roots += usize::from(open.is_empty());
        names.push(name.to_owned());
        if !empty {
            open.push(name.to_owned());
        }
    }
    characters(rest, true)?;
    match (open.as_slice(), roots) {
        ([], 1) => Ok(names),
        _ => Err(format!("{roots} roots, open at the end: {open:?}")),
    }
}

fn characters(text: &str, outside: bool) -> Result<(), String> {
    let mut parts = text.split('&');
    let first = parts.next().unwrap_or_default();
    if outside && !text.trim().is_empty() || first.contains('>') {
        return Err(format!("text {text:?}"));
    }
    for part in parts {
        if !["amp;", "lt;", "gt;"].iter().any(|entity| part.starts_with(entity)) {
            return Err(format!("a bare ampersand before {part:?}"));
        }
    }
    Ok(())
}

fn attributes_of(mut text: &str) -> Result<(), String> {
    let mut names = Vec::new();
    while !text.trim().is_empty() {
        let (name, rest) =
            text.trim_start().split_once("=\"").ok_or_else(|| format!("attribute {text:?}"))?;
        let (value, rest) = rest.split_once('"').ok_or_else(|| format!("no quote in {rest:?}"))?;
        characters(value, false)?;
        if names.contains(&name) || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(format!("attribute {name:?}"));
        }
        names.push(name);
        text = rest;
    }
    Ok(())
}

fn sample(kind: Kind, at: u64, micros: u64) -> Sample {
    Sample { at: Duration::from_millis(at), latency: Duration::from_micros(micros), kind }
}

#[test]
fn the_check_sees_what_is_not_well_formed() {
    let xml = |body: &str| elements(&format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}"));
    assert_eq!(xml("<a><b c=\"d\"/>e &amp; f</a>\n").unwrap(), ["a", "b"]);
    for wrong in
        ["<a>", "<a></b>", "<a b=c/>", "<a b=\"1\" b=\"2\"/>", "<a>&</a>", "<a/>x", "<a/><b/>", "</a>"]
    {
        assert!(xml(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_picture_is_well_formed_and_has_all_of_it() {
    let samples: Vec<Sample> =
        (0..1000).map(|n| sample(Kind::Lines, n * 10, 200 + n)).chain([sample(Kind::Idle, 0, 90)]).collect();
    let picture = Picture {
        title: "a < b & \"c\" > d".into(),
        took: Duration::from_secs(10),
        samples: &samples,
        checkpoints: (1..10).map(Duration::from_secs).collect(),
        marks: vec![Mark { at: Duration::from_secs(9), text: "SIGKILL <primary>".into() }],
    };
    let svg = picture.svg();
    let elements = elements(&svg).unwrap();
    let count = |name: &str| elements.iter().filter(|element| *element == name).count();
    assert_eq!(elements[0], "svg");
    assert_eq!(count("path"), 2, "one for each kind there is");
    assert_eq!(count("circle"), COLOURS.len(), "the legend");
    // Decades, ticks with 11 of a second each, two axes, nine checkpoints, one mark.
    assert_eq!(count("line"), 6 + 11 + 2 + 9 + 1);
    assert!(svg.contains("SIGKILL &lt;primary&gt;") && svg.contains("a &lt; b &amp; \"c\" &gt; d"));
}

#[test]
fn an_empty_run_and_what_is_beyond_the_axes_are_drawn_too() {
    elements(&Picture::default().svg()).unwrap();
    assert!((y(Duration::ZERO) - BOTTOM).abs() < 1e-6);
    assert!((y(Duration::from_secs(1000)) - TOP).abs() < 1e-6);
    assert!(y(Duration::from_millis(1)) > y(Duration::from_millis(2)));
    let late = [sample(Kind::Short, 5000, 1)];
    let picture = Picture { took: Duration::from_secs(1), samples: &late, ..Picture::default() };
    elements(&picture.svg()).unwrap();
}

#[test]
fn every_kind_has_a_colour_of_its_own() {
    let colours: BTreeSet<&str> = COLOURS.iter().map(|(_, colour)| *colour).collect();
    let kinds: BTreeSet<Kind> = COLOURS.iter().map(|(kind, _)| *kind).collect();
    assert_eq!((colours.len(), kinds.len()), (COLOURS.len(), COLOURS.len()));
}
