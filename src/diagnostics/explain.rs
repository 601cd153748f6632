//! The pages behind the codes, embedded in the program.

macro_rules! pages {
    ($($code:literal)*) => {
        const PAGES: &[(&str, &str)] =
            &[$(($code, include_str!(concat!("../../docs/errors/", $code, ".md")))),*];
    };
}

pages! {
    "E0101" "E0102" "E0103" "E0104" "E0105" "E0106"
    "E0201" "E0202" "E0203" "E0204" "E0205" "E0206" "E0207" "E0208" "E0209" "E0210"
    "E0211" "E0212" "E0213" "E0214" "E0215" "E0216" "E0217" "E0218" "E0219" "E0220"
    "W0101"
}

/// The page on a diagnostic code, in Markdown.
pub fn explain(code: &str) -> Option<&'static str> {
    PAGES.iter().find(|(own, _)| own.eq_ignore_ascii_case(code)).map(|(_, page)| *page)
}

/// All codes that have a page, with its title.
pub fn codes() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGES.iter().map(|&(code, page)| {
        let title = page.lines().next().unwrap_or_default();
        let title = title.trim_start_matches('#').trim();
        (code, title.strip_prefix(code).map_or(title, |rest| rest.trim_start_matches([':', ' '])))
    })
}
