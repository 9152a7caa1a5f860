//! "Did you mean": the known word that is nearest to one that is not known.

/// The word of `known` that differs least from `word`, if it is near enough to have been meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let nearest = known.into_iter().map(|candidate| (distance(word, candidate), candidate)).min()?;
    let letters = word.chars().count().max(nearest.1.chars().count());
    (nearest.0 * 5 <= letters * 2).then_some(nearest.1)
}

/// How many letters must be added, dropped or replaced to make `b` of `a`, differences of case and of `-` and `_` free.
fn distance(a: &str, b: &str) -> usize {
    let plain = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let (a, b) = (plain(a), plain(b));
    // The row of distances from the first letters of `a` to every beginning of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found() {
        let known = ["listen", "data_dir", "account", "region"];
        assert_eq!(nearest("data-dir", known), Some("data_dir"));
        assert_eq!(nearest("regoin", known), Some("region"));
        assert_eq!(nearest("Listen", known), Some("listen"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
