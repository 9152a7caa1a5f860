//! "Did you mean": the known word that a mistyped one is closest to.

/// Letters by which a word may differ from what was meant, at most.
const FAR: usize = 3;

/// The closest of `known`, where one is close enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = letters(word);
    let allowed = word.len().div_ceil(3).min(FAR) - usize::from(word.len() == 1);
    let near = known.into_iter().map(|candidate| (distance(&word, &letters(candidate)), candidate));
    near.filter(|(far, _)| *far <= allowed).min().map(|(_, candidate)| candidate)
}

/// What there is to choose from.
pub fn choice(known: &[&str], otherwise: &str) -> String {
    if known.is_empty() { otherwise.to_owned() } else { format!("there are: {}", list(known)) }
}

/// `` `a`, `b`, … ``: a few of them.
pub fn list(words: &[&str]) -> String {
    let shown: Vec<String> = words.iter().take(8).map(|word| format!("`{word}`")).collect();
    shown.join(", ") + if words.len() > 8 { ", …" } else { "" }
}

fn letters(text: &str) -> Vec<char> {
    text.chars().take(64).flat_map(char::to_lowercase).collect()
}

/// Letters to change, leave out, put in or swap with a neighbour, whatever their case. What is more than [`FAR`] is not
/// counted to its end.
fn distance(x: &[char], y: &[char]) -> usize {
    if x.len().abs_diff(y.len()) > FAR {
        return usize::MAX;
    }
    // Ways through cells further from the diagonal are longer than that.
    let far = FAR + 1;
    let mut rows = [vec![far; y.len() + 1], (0..=y.len()).collect(), vec![far; y.len() + 1]];
    for i in 1..=x.len() {
        let (from, to) = (i.saturating_sub(FAR).max(1), (i + FAR).min(y.len()));
        rows[2][from - 1] = if from == 1 { i } else { far };
        let mut nearest = rows[2][from - 1];
        for j in from..=to {
            let change = rows[1][j - 1] + usize::from(x[i - 1] != y[j - 1]);
            let mut least = change.min(rows[1][j] + 1).min(rows[2][j - 1] + 1);
            if i > 1 && j > 1 && x[i - 1] == y[j - 2] && x[i - 2] == y[j - 1] {
                least = least.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = least;
            nearest = nearest.min(least);
        }
        if nearest > FAR {
            return usize::MAX;
        }
        if let Some(beyond) = rows[2].get_mut(to + 1) {
            *beyond = far;
        }
        rows.rotate_left(1);
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
        assert_eq!(nearest("abcdefghij", ["abcdefg", "abcdefghijklm", "cdbfegahij"]), Some("abcdefg"));
        assert_eq!(nearest("abcdefghij", ["defghijabc", "abcdef", ""]), None);
        assert_eq!(choice(&["count", "sum"], "none"), "there are: `count`, `sum`");
        assert_eq!(choice(&[], "declare one"), "declare one");
    }
}
