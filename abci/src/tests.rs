//! Opening applications by name, and panics in them.

use super::remote::{Settings, Stop};
use super::{AppError, Named, OpenError, Role, Roles, in_process};
use bytes::Bytes;
use std::error::Error as _;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tendermint_proto::v0_38::abci::{
    ExecTxResult, RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestQuery, ResponseCheckTx,
    ResponseInfo, ResponseQuery,
};

fn open(proxy_app: &str, data_dir: &Path) -> Result<Roles, OpenError> {
    let (proxy_app, data_dir) = (proxy_app.to_owned(), data_dir.to_owned());
    let block_delay = Duration::ZERO;
    let named = Named { proxy_app, data_dir, snapshot_interval: 0, optimistic: true, block_delay };
    super::open(&named, &Settings::default(), &Stop::default())
}

/// Commits a block with one transaction.
fn commit(roles: &mut Roles, tx: &'static str) {
    let txs = vec![Bytes::from(tx)];
    let request = RequestFinalizeBlock { height: 1, txs, ..Default::default() };
    assert_eq!(roles.consensus.finalize_block(request).unwrap().tx_results.len(), 1);
    roles.consensus.commit().unwrap();
}

fn height(roles: &mut Roles) -> i64 {
    roles.query.info(RequestInfo::default()).unwrap().last_block_height
}

#[test]
fn both_kvstores_keep_their_data_in_one_folder_below_the_data_folder() {
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("data");
    let mut roles = open("kvstore", &data_dir).unwrap();
    assert_eq!(height(&mut roles), 0);
    commit(&mut roles, "a=1");
    drop(roles);
    assert!(data_dir.join("kvstore.db").is_dir());
    assert_eq!(height(&mut open("persistent_kvstore", &data_dir).unwrap()), 1);
}

#[test]
fn the_roles_of_the_kvstore_share_it() {
    let folder = TempDir::new().unwrap();
    let mut roles = open("persistent_kvstore", folder.path()).unwrap();
    commit(&mut roles, "a=1");
    let request = RequestQuery { data: Bytes::from("a"), ..Default::default() };
    assert_eq!(roles.query.query(request.clone()).unwrap().value, "1");
    assert_eq!(roles.snapshot.query(request).unwrap().value, "1");
}

#[test]
fn noop_executes_everything_and_keeps_nothing() {
    let mut roles = open("noop", Path::new("/nowhere")).unwrap();
    commit(&mut roles, "anything");
    assert_eq!(roles.query.info(RequestInfo::default()), Ok(ResponseInfo::default()));
    assert_eq!(roles.query.query(RequestQuery::default()), Ok(ResponseQuery::default()));
    assert_eq!(roles.mempool.check_tx(RequestCheckTx::default()), Ok(ResponseCheckTx::default()));
    let txs = vec![Bytes::from("x"); 3];
    let request = RequestFinalizeBlock { height: 1, txs, ..Default::default() };
    let response = roles.consensus.finalize_block(request).unwrap();
    assert_eq!(response.tx_results, vec![ExecTxResult::default(); 3]);
    assert!(response.app_hash.is_empty());
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    for name in ["", "kv", "KVSTORE", "e2e"] {
        let error = open(name, Path::new("/nowhere")).unwrap_err();
        let expected = format!(
            "proxy_app = \"{name}\" names no application: set kvstore, persistent_kvstore, noop, tcp://HOST:PORT or \
             unix://PATH"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_folder_that_is_in_use_is_refused() {
    let folder = TempDir::new().unwrap();
    let _first = open("kvstore", folder.path()).unwrap();
    let error = open("kvstore", folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Database { .. }), "{error:?}");
    assert!(error.to_string().contains("kvstore.db cannot be opened"), "{error}");
    assert!(error.source().is_some());
}

#[test]
fn damaged_data_is_refused() {
    let folder = TempDir::new().unwrap();
    drop(open("kvstore", folder.path()).unwrap());
    for (key, what) in [("val=short", "validator"), ("stateKey", "state")] {
        let db = rocksdb::DB::open_default(folder.path().join("kvstore.db")).unwrap();
        db.put(key, "nonsense").unwrap();
        drop(db);
        let error = open("kvstore", folder.path()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        let cause = error.source().unwrap().to_string();
        assert_eq!(cause, format!("the kvstore's {what} in the database cannot be read"));
    }
}

/// Panics with a text that is a `&str` and one that is a `String`.
#[derive(Clone)]
struct Broken;

impl tendermint_abci::Application for Broken {
    fn check_tx(&self, _: RequestCheckTx) -> ResponseCheckTx {
        panic!("no answer")
    }

    fn query(&self, request: RequestQuery) -> ResponseQuery {
        panic!("no answer to {}", request.path)
    }
}

#[test]
fn a_panic_becomes_an_error_that_names_method_and_role() {
    let mut roles = in_process(Broken);
    let error = roles.mempool.check_tx(RequestCheckTx::default()).unwrap_err();
    let message = "no answer".to_owned();
    assert_eq!(error, AppError::Panicked { method: "CheckTx", role: Role::Mempool, message });
    let path = "/x".to_owned();
    let error = roles.query.query(RequestQuery { path, ..Default::default() }).unwrap_err();
    assert_eq!(error.to_string(), "the application failed in Query (query): no answer to /x");
    assert!(roles.consensus.info(RequestInfo::default()).is_ok());
}
