//! "Did you mean …?"

/// The known name that is nearest to `name`, if it is near enough to be what was meant.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    // Longer names would only cost time.
    if length > 64 {
        return None;
    }
    known
        .into_iter()
        .filter(|other| *other != name && other.chars().count() <= 64)
        .map(|other| (distance(&name.to_lowercase(), &other.to_lowercase()), other))
        .filter(|&(distance, other)| {
            let shared =
                other.len() >= 4 && (name.starts_with(other) || other.starts_with(name)) && length >= 4;
            shared || distance <= length.div_ceil(3)
        })
        // By name at last: the same mistake gets the same suggestion each time.
        .min_by_key(|&(distance, other)| (distance, other.len(), other))
        .map(|(_, other)| other)
}

/// Edits that lead from one to the other: insert, delete, replace, swap neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["dense", "conv2d", "relu", "diagnosis", "mean_radius"];
        assert_eq!(suggest("desne", known), Some("dense"));
        assert_eq!(suggest("Relu", known), Some("relu"));
        assert_eq!(suggest("conv", known), Some("conv2d"));
        assert_eq!(suggest("diagnose", known), Some("diagnosis"));
        assert_eq!(suggest("softmax", known), None);
        assert_eq!(suggest("x", known), None);
    }
}
