use super::*;

fn spec(text: &str) -> Result<EtcdSpec, String> {
    text.parse()
}

#[test]
fn the_command_line_names_a_cluster() {
    let plain = spec("http://192.0.2.1:2379").unwrap();
    let access = Access { endpoints: vec!["http://192.0.2.1:2379".into()], tls: None, login: None };
    assert_eq!(plain.access, access);
    assert_eq!(plain.terms, Terms { ttl: Duration::from_secs(5), drift: 1 });
    assert_eq!(plain.prefix, "/colo/");
    let all = spec("http://a:1/,b:2,http://[2001:db8::1]:3;ttl=30;drift=0;prefix=/x/y/").unwrap();
    assert_eq!(all.access.endpoints, ["http://a:1", "http://b:2", "http://[2001:db8::1]:3"]);
    assert_eq!(all.terms, Terms { ttl: Duration::from_secs(30), drift: 0 });
    assert_eq!(all.prefix, "/x/y/");
}

#[test]
fn tls_goes_by_files_or_by_the_systems_roots() {
    let roots = spec("https://a:1,https://b:2").unwrap().access;
    assert_eq!(roots.endpoints, ["https://a:1", "https://b:2"]);
    assert_eq!(roots.tls, Some(Files::default()));
    let all = spec("https://a:1;ca=/ca.pem;cert=/c.pem;key=/k.pem;user=colo;password-file=/p").unwrap();
    let identity = Some(("/c.pem".into(), "/k.pem".into()));
    assert_eq!(all.access.tls, Some(Files { ca: Some("/ca.pem".into()), identity }));
    assert_eq!(all.access.login, Some(Login { user: "colo".into(), password: "/p".into() }));
}

#[test]
fn what_it_does_not_mean_is_refused_with_the_way_out() {
    for (wrong, why) in [
        ("", "is not http://HOST:PORT"),
        ("http://a", "is not http://HOST:PORT"),
        ("http://a:0", "is not http://HOST:PORT"),
        ("http://:2379", "is not http://HOST:PORT"),
        ("https://:2379", "is not https://HOST:PORT"),
        ("http://a:1/v3", "is not http://HOST:PORT"),
        ("http://user@a:1", "is not http://HOST:PORT"),
        ("unix://a:1", "is no http:// or https:// URL"),
        ("http://a:1,", "is not http://HOST:PORT"),
        ("http://a:1;ttl=1", "ttl is 2 to 600"),
        ("http://a:1;drift=51", "drift is 0 to 50"),
        ("http://a:1;drift", "drift is 0 to 50"),
        ("http://a:1;prefix=x", "does not end with /"),
        ("http://a:1;colour=x", "there is no option"),
        ("http://a:1;user=x", "user= and password-file= go together"),
        ("https://a:1;cert=/c.pem", "cert= and key= go together"),
        ("https://a:1;key=/k.pem", "cert= and key= go together"),
        ("https://a:1;ca=", "ca= says nothing"),
        ("http://a:1;ca=/ca.pem", "the endpoints are http://"),
        ("https://a:1,b:2", "some endpoints are https:// and some are not"),
    ] {
        let refused = spec(wrong).unwrap_err();
        assert!(
            refused.contains(why) && refused.contains("write etcd:http://HOST:PORT"),
            "{wrong}: {refused}"
        );
    }
}
