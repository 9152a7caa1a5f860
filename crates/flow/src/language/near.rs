//! "Did you mean": the known word that a mistyped one is closest to.

/// The closest of `known`, where one is close enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = word.chars().count().div_ceil(3).min(3) - usize::from(word.chars().count() == 1);
    let near = known.into_iter().map(|candidate| (distance(word, candidate), candidate));
    near.filter(|(far, _)| *far <= allowed).min().map(|(_, candidate)| candidate)
}

/// The hint for a mistyped word, or what there is to choose from.
pub fn hint(word: &str, known: &[&str], otherwise: &str) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => otherwise.to_owned(),
        None => format!("there are: {}", list(known)),
    }
}

/// `` `a`, `b`, … ``: a few of them.
pub fn list(words: &[&str]) -> String {
    let shown: Vec<String> = words.iter().take(8).map(|word| format!("`{word}`")).collect();
    shown.join(", ") + if words.len() > 8 { ", …" } else { "" }
}

/// Letters to change, leave out, put in or swap with a neighbour; case counts half a letter, rounded up once.
fn distance(a: &str, b: &str) -> usize {
    let lower = |text: &str| text.chars().take(64).flat_map(char::to_lowercase).collect::<Vec<char>>();
    let (x, y) = (lower(a), lower(b));
    let mut rows: [Vec<usize>; 3] = [Vec::new(), (0..=y.len()).collect(), Vec::new()];
    for i in 1..=x.len() {
        let mut row = vec![i];
        for j in 1..=y.len() {
            let change = rows[1][j - 1] + usize::from(x[i - 1] != y[j - 1]);
            let mut least = change.min(rows[1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && x[i - 1] == y[j - 2] && x[i - 2] == y[j - 1] {
                least = least.min(rows[0][j - 2] + 1);
            }
            row.push(least);
        }
        rows.rotate_left(1);
        rows[1] = row;
    }
    rows[1][y.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_close_and_other_words_are_not() {
        assert_eq!(nearest("cuont", ["count", "sum"]), Some("count"));
        assert_eq!(nearest("Count", ["count"]), Some("count"));
        assert_eq!(nearest("sm", ["sum", "count"]), Some("sum"));
        assert_eq!(nearest("render", ["count", "sum"]), None);
        assert_eq!(hint("x", &["count", "sum"], "none"), "there are: `count`, `sum`");
        assert_eq!(hint("x", &[], "declare one"), "declare one");
    }
}
