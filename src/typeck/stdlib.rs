//! The standard library: programs that come with this one.

use crate::diagnostics::Sources;
use crate::parser::{self, ast::Module};

const FILES: [(&str, &str); 3] = [
    ("std/activations.hes", include_str!("../../stdlib/activations.hes")),
    ("std/layers.hes", include_str!("../../stdlib/layers.hes")),
    ("std/losses.hes", include_str!("../../stdlib/losses.hes")),
];

/// The library's syntax trees; their texts are among `sources` afterwards.
pub fn modules(sources: &mut Sources) -> Vec<Module> {
    FILES
        .iter()
        .map(|(name, text)| {
            let file = sources.find(name).unwrap_or_else(|| sources.add(*name, *text));
            parser::parse(text, file).module
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::FileId;

    #[test]
    fn the_library_has_no_syntax_errors() {
        for (name, text) in FILES {
            assert_eq!(parser::parse(text, FileId(0)).diagnostics, vec![], "{name}");
        }
    }
}
