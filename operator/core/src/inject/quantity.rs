//! Quantities of resources, `250m` or `64Mi`: whether a text is one, and which of two is more. Kubernetes keeps them as
//! text, and so does everything that only hands them on.

/// Suffixes and what they multiply by.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// How much a text means; none where it is no quantity, or a negative one.
pub(super) fn parse(text: &str) -> Option<f64> {
    let suffix = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let (number, factor) = suffix.unwrap_or((text, 1.0));
    let digits = number.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'.' | b'e' | b'E' | b'-' | b'+'));
    let begins = number.starts_with(|c: char| c.is_ascii_digit());
    let number: f64 = number.parse().ok().filter(|_| digits && begins)?;
    (number * factor).is_finite().then_some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn quantities_are_read_and_others_refused() {
        for (more, less) in
            [("1", "250m"), ("64Mi", "64M"), ("1e3", "999"), ("0.5", "499m"), ("1G", "1000Ki")]
        {
            assert!(parse(more).unwrap() > parse(less).unwrap(), "{more} {less}");
        }
        for bad in ["", "m", "-1", "+1", "1 Mi", "1mi", "many", "inf", "NaN", "1e999", "0x1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
