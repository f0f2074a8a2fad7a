use super::*;

fn spec(text: &str) -> Result<EtcdSpec, String> {
    text.parse()
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

#[test]
fn a_file_that_cannot_be_used_is_told_at_the_start() {
    let claim = crate::judge::tests::claim(1, 1);
    let missing = spec("https://127.0.0.1:1;ca=/nowhere/ca.pem").unwrap();
    let error = Etcd::start(missing, &claim.pair, |_| {}).unwrap_err().to_string();
    assert!(error.starts_with("etcd: /nowhere/ca.pem: No such file"), "{error}");
}
