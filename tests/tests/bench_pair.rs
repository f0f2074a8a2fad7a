//! The benchmark of the pair measures something of each kind on each side. How much it is, is for a quiet machine.

use std::time::Duration;

use colo_tests::{
    bench::pair::{
        self, Plan,
        case::{Amount, Case},
        side::Side,
        table::Table,
    },
    lab::child::Programs,
};

#[test]
fn a_tiny_round_of_each_side_serves_every_request() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let sides = vec![Side::Ceiling, Side::Both, Side::Stock, Side::Colo];
    let mut table = Table::new(Vec::new(), sides.clone());
    let amount = Amount::For(Duration::from_millis(100));
    pair::run(&Plan { programs, sides, cases: Case::ALL.to_vec(), rounds: 1, amount }, &mut table).unwrap();
    println!("{table}");
    for row in &table.rows {
        for (side, rounds) in table.sides.iter().zip(&row.rounds) {
            let shown = || format!("{}, {}, {}: {rounds:?}", side.name(), row.case.name(), row.quantity);
            match row.quantity {
                _ if !side.takes(row.case) => assert!(rounds.is_empty(), "{}", shown()),
                "failed" => assert_eq!(*rounds, [0.0], "{}", shown()),
                quantity if quantity.contains("checkpoints") => {
                    let made = !matches!(side, Side::Ceiling | Side::Both);
                    assert_eq!(rounds.len(), usize::from(made), "{}", shown());
                }
                _ => assert!(rounds.len() == 1 && rounds[0] > 0.0, "{}", shown()),
            }
        }
    }
    let measured = |case| table.rows.iter().any(|row| row.case == case);
    assert!(Case::ALL.into_iter().all(measured), "{table}");
}
