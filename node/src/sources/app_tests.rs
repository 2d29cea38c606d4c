use super::*;
use crate::rpc::sources::App as _;
use std::sync::mpsc;
use tercet_abci::remote::{self, Settings, Stop};

/// Waits in a query for `slow` until the test lets it go, and panics at `bad`.
#[derive(Clone)]
struct Slow(Arc<std::sync::Mutex<mpsc::Receiver<()>>>);

impl tendermint_abci::Application for Slow {
    fn query(&self, request: RequestQuery) -> ResponseQuery {
        match request.path.as_str() {
            "slow" => self.0.lock().unwrap().recv().unwrap(),
            "bad" => panic!("for the test"),
            _ => {}
        }
        ResponseQuery { info: request.path, ..ResponseQuery::default() }
    }
}

fn start() -> (App, mpsc::Sender<()>, mpsc::Receiver<String>) {
    let (go, wait) = mpsc::channel();
    let (failed, failures) = mpsc::channel();
    let slow = Slow(Arc::new(std::sync::Mutex::new(wait)));
    let failed = Arc::new(move |reason| failed.send(reason).unwrap());
    (App::start(tercet_abci::in_process(slow).query, failed).unwrap().0, go, failures)
}

fn query(app: &App, path: &str) -> BoxFuture<Result<ResponseQuery, String>> {
    app.query(RequestQuery { path: path.to_owned(), ..RequestQuery::default() })
}

#[tokio::test]
async fn a_slow_query_blocks_no_task_and_answers_come_in_order() {
    let (app, go, _failures) = start();
    let slow = query(&app, "slow");
    let next = query(&app, "next");
    let early = tokio::time::timeout(Duration::from_millis(20), app.info()).await;
    assert!(early.is_err());
    go.send(()).unwrap();
    assert_eq!(slow.await.unwrap().info, "slow");
    assert_eq!(next.await.unwrap().info, "next");
    assert!(app.info().await.is_ok());
    assert!(app.check_tx(Bytes::from_static(b"a=b")).await.is_ok());
}

#[tokio::test]
async fn too_many_waiting_calls_are_refused() {
    let (app, go, _failures) = start();
    let slow = query(&app, "slow");
    // One call is with the application, so at least one of these finds no room.
    let waiting: Vec<_> = (0..=CALLS_MAX).map(|_| query(&app, "next")).collect();
    let refused = query(&app, "next").await.unwrap_err();
    assert_eq!(refused, "1024 calls wait for the application already");
    go.send(()).unwrap();
    slow.await.unwrap();
    drop(waiting);
}

#[tokio::test]
async fn a_query_that_fails_is_refused_and_harms_nobody_else() {
    let (app, _go, failures) = start();
    for _ in 0..3 {
        let error = query(&app, "bad").await.unwrap_err();
        assert!(error.contains("failed in Query") && error.contains("for the test"), "{error}");
        assert_eq!(query(&app, "next").await.unwrap().info, "next");
    }
    assert_eq!(failures.try_recv(), Err(mpsc::TryRecvError::Empty), "the node would leave");
}

#[tokio::test]
async fn who_has_given_the_application_up_asks_it_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix://{}/nobody.sock", folder.path().display()).parse().unwrap();
    let settings = Settings { exit_on_disconnect: true, ..Settings::default() };
    let role = remote::closed(tercet_abci::Role::Query, &address, &settings, &Stop::default());
    let (failed, failures) = mpsc::channel();
    let failed = Arc::new(move |reason| failed.send(reason).unwrap());
    let (app, _) = App::start(role, failed).unwrap();
    let error = query(&app, "first").await.unwrap_err();
    assert!(error.contains("leaving, as abci_exit_on_disconnect says"), "{error}");
    assert_eq!(failures.recv_timeout(Duration::from_secs(5)).unwrap(), error);
    assert_eq!(query(&app, "next").await.unwrap_err(), error);
    assert_eq!(app.info().await.unwrap_err(), error);
}

#[test]
fn calls_that_fail_are_told_at_a_bounded_rate() {
    let (mut failures, now) = (Failures::default(), Instant::now());
    let (method, role) = ("Query", tercet_abci::Role::Query);
    let error = AppError::Exception { method, role, message: "m".into() };
    failures.tell(&error, now);
    (1..10).for_each(|second| failures.tell(&error, now + Duration::from_secs(second)));
    assert_eq!((failures.last, failures.untold), (Some(now), 9));
    let later = now + TELL_EVERY;
    failures.tell(&error, later);
    assert_eq!((failures.last, failures.untold), (Some(later), 0));
}
