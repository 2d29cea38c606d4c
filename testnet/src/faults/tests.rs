use super::*;

#[test]
fn every_row_has_a_name_of_its_own_and_says_what_it_does() {
    let rows: Vec<&Row> = ROWS.iter().copied().flatten().collect();
    assert!(!rows.is_empty());
    for (number, row) in rows.iter().enumerate() {
        assert!(row.id.starts_with("T-"), "{}", row.id);
        let texts = [row.fault, row.how, row.must];
        assert!(texts.iter().all(|text| !text.is_empty() && !text.contains('|')), "{}", row.id);
        assert!(rows.iter().skip(number + 1).all(|other| other.id != row.id), "{} twice", row.id);
    }
}

#[test]
fn the_page_keeps_the_rows_that_did_not_run() {
    let row = |id| Row {
        id,
        fault: "f",
        how: "h",
        must: "m",
        run: |_| Box::pin(async { Ok(String::new()) }),
    };
    let (one, two) = (row("T-1"), row("T-2"));
    let secs = Duration::from_secs(3);
    let first = page::write(
        "",
        [&one, &two].into_iter(),
        &[(&one, Verdict::Green("a|b".to_owned()), secs)],
    );
    assert!(
        first.contains(
            "| T-1 | f | h | m | green | a\\|b | 3 |\n| T-2 | f | h | m | not run | | |\n"
        )
    );
    let second = page::write(
        &first,
        [&one, &two].into_iter(),
        &[(&two, Verdict::Red("c".to_owned()), secs)],
    );
    assert!(second.contains(
        "| T-1 | f | h | m | green | a\\|b | 3 |\n| T-2 | f | h | m | **red** | c | 3 |\n"
    ));
}
