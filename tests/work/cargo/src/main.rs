//! Prints the mean of its arguments.

fn main() {
    let numbers: Vec<f64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    match average::mean(&numbers) {
        Some(mean) => println!("{mean} {}", average::UNIT),
        None => println!("nothing"),
    }
}
