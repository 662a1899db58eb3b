//! The mean of some numbers.

include!(concat!(env!("OUT_DIR"), "/unit.rs"));

/// The mean of `numbers`, or nothing of nothing.
pub fn mean(numbers: &[f64]) -> Option<f64> {
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

#[test]
fn mean_of_some() {
    assert_eq!(mean(&[1.0, 2.0, 3.0]), Some(2.0));
    assert_eq!(mean(&[]), None);
}
