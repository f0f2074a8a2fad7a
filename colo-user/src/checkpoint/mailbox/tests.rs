use super::*;

fn request(epoch: u64, text: &str) -> Request {
    Request { kind: "payload", text: text.into(), epoch: Epoch(epoch), divergence: None }
}

#[tokio::test]
async fn requests_coalesce_into_the_first() {
    let mailbox = Mailbox::default();
    for text in ["first", "second", "third"] {
        mailbox.post(&request(1, text));
    }
    let taken = mailbox.take().await;
    assert_eq!((taken.request.text.as_str(), taken.coalesced), ("first", 2));
    assert_eq!(mailbox.try_take(), None);
    mailbox.post(&request(1, "fourth"));
    mailbox.put_back(taken);
    assert_eq!(mailbox.take().await.request.text, "fourth", "a newer one stands for the one put back");
}

#[tokio::test]
async fn a_settled_request_is_not_served() {
    let mailbox = Mailbox::default();
    mailbox.post(&request(1, "old"));
    let taken = mailbox.try_take().unwrap();
    mailbox.settle(Epoch(2));
    mailbox.put_back(taken);
    assert_eq!(mailbox.try_take(), None, "put back too late");
    assert_eq!(mailbox.counters().get("settled"), Some(&1), "and counted");
    mailbox.post(&request(2, "new"));
    assert_eq!(mailbox.take().await.request.text, "new");
}

#[tokio::test]
async fn one_who_waits_is_woken() {
    let mailbox = std::sync::Arc::new(Mailbox::default());
    let waiting = tokio::spawn({
        let mailbox = std::sync::Arc::clone(&mailbox);
        async move { mailbox.take().await }
    });
    tokio::task::yield_now().await;
    mailbox.post(&request(1, "now"));
    assert_eq!(waiting.await.unwrap().request.text, "now");
}
