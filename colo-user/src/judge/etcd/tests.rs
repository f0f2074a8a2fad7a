use super::*;

fn spec(text: &str) -> Result<EtcdSpec, String> {
    text.parse()
}

#[test]
fn the_command_line_names_a_cluster() {
    let plain = spec("http://192.0.2.1:2379").unwrap();
    assert_eq!(plain.endpoints, ["http://192.0.2.1:2379"]);
    assert_eq!(plain.terms, Terms { ttl: Duration::from_secs(5), drift: 1 });
    assert_eq!(plain.prefix, "/colo/");
    let all = spec("http://a:1/,b:2,http://[2001:db8::1]:3;ttl=30;drift=0;prefix=/x/y/").unwrap();
    assert_eq!(all.endpoints, ["http://a:1", "http://b:2", "http://[2001:db8::1]:3"]);
    assert_eq!(all.terms, Terms { ttl: Duration::from_secs(30), drift: 0 });
    assert_eq!(all.prefix, "/x/y/");
}

#[test]
fn what_it_does_not_mean_is_refused_with_the_way_out() {
    for (wrong, why) in [
        ("", "is not http://HOST:PORT"),
        ("http://a", "is not http://HOST:PORT"),
        ("http://a:0", "is not http://HOST:PORT"),
        ("http://:2379", "is not http://HOST:PORT"),
        ("http://a:1/v3", "is not http://HOST:PORT"),
        ("http://user@a:1", "is not http://HOST:PORT"),
        ("unix://a:1", "is no http:// URL"),
        ("https://a:1", "etcd grpc-proxy"),
        ("http://a:1,", "is not http://HOST:PORT"),
        ("http://a:1;ttl=1", "ttl is 2 to 600"),
        ("http://a:1;drift=51", "drift is 0 to 50"),
        ("http://a:1;drift", "drift is 0 to 50"),
        ("http://a:1;prefix=x", "does not end with /"),
        ("http://a:1;user=x", "there is no option"),
    ] {
        let refused = spec(wrong).unwrap_err();
        assert!(
            refused.contains(why) && refused.contains("write etcd:http://HOST:PORT"),
            "{wrong}: {refused}"
        );
    }
}

#[tokio::test]
async fn a_cluster_that_is_away_gives_no_answer_and_no_lease() {
    // A port that nobody listens on: taken and let go of.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let claim = crate::judge::tests::claim(1, 1);
    let etcd = Etcd::start(spec(&format!("http://127.0.0.1:{port}")).unwrap(), &claim.pair, |tenure| {
        panic!("{tenure:?} from nowhere")
    })
    .unwrap();
    etcd.ends(|end| panic!("{end:?} from nowhere"));
    let answer = etcd.ask(&claim).await;
    assert!(matches!(&answer, Answer::None(why) if why.contains(&port.to_string())), "{answer:?}");
}
