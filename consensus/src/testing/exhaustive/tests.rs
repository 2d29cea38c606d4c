//! Small bounds, exhausted.

use super::{Bounds, search};

#[test]
fn one_height_with_two_views() {
    let report = search(&Bounds::default(), &mut |_| {}).unwrap();
    assert_eq!(report.violation, None);
    assert!(report.exhausted);
    println!("{report:?}");
}
