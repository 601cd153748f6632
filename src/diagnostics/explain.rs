//! The pages behind the codes, embedded in the program.

macro_rules! pages {
    ($($code:literal)*) => {
        const PAGES: &[(&str, &str)] =
            &[$(($code, include_str!(concat!("../../docs/errors/", $code, ".md")))),*];
    };
}

// Every code that the program uses has a page in docs/errors, and stands here.
pages! {
    "E0101" "E0102" "E0103" "E0104" "E0106" "E0107"
    "E0201" "E0202" "E0203" "E0204" "E0205" "E0206" "E0207" "E0208" "E0209" "E0210"
    "E0211" "E0212" "E0213" "E0214" "E0215" "E0216" "E0217" "E0218" "E0219" "E0220" "E0221" "E0222" "E0223"
    "E0301" "E0302" "E0303" "E0304" "E0305" "E0306"
    "E0401" "E0402"
    "E0501" "E0502" "E0503" "E0504"
    "E0601" "E0602" "E0603" "E0604" "E0605" "E0606" "E0607" "E0608" "E0610" "E0611" "E0612" "E0613" "E0614" "E0615"
    "E0616" "E0617" "E0618"
    "W0101" "W0201" "W0401" "W0402" "W0601" "W0602" "W0603"
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
