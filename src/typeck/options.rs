//! The options of `data` and `train`: each known, each once, each with a value that makes sense.

use super::data_spec::{DataFormat, DataSpec, Outcome, Scale, Spanned, Subset};
use crate::diagnostics::{Diagnostic, Span, suggest};
use crate::parser::ast::*;

/// A block of options being read. What is not taken at the end is unknown.
pub struct Options<'a, 'e> {
    what: &'static str,
    settings: &'a [Setting],
    known: Vec<&'static str>,
    pub errors: &'e mut Vec<Diagnostic>,
}

impl<'a, 'e> Options<'a, 'e> {
    pub fn new(what: &'static str, settings: &'a [Setting], errors: &'e mut Vec<Diagnostic>) -> Self {
        for (index, setting) in settings.iter().enumerate() {
            if let Some(first) = settings[..index].iter().find(|s| s.key.value == setting.key.value) {
                errors.push(
                    Diagnostic::error("E0215", format!("the option `{}` is given twice", setting.key.value))
                        .label(setting.key.span, "given again")
                        .label(first.key.span, "first given here")
                        .help("remove one of them"),
                );
            }
        }
        Self { what, settings, known: Vec::new(), errors }
    }

    /// The option of this name, if it is there.
    pub fn take(&mut self, key: &'static str) -> Option<&'a Setting> {
        self.known.push(key);
        let found = self.settings.iter().find(|s| s.key.value == key)?;
        if let Some(qualifier) = found.qualifier.as_ref().filter(|q| !(key == "sgd" && q.value == "rate")) {
            let help = if key == "sgd" {
                "write `sgd: rate 0.5`".to_owned()
            } else {
                format!("write the value alone: `{key}: …`")
            };
            self.errors.push(
                Diagnostic::error("E0215", format!("`{key}` takes no `{}`", qualifier.value))
                    .label(qualifier.span, "not expected here")
                    .help(help),
            );
            return None;
        }
        Some(found)
    }

    /// Reports what no `take` has asked for.
    pub fn finish(self) {
        for setting in self.settings.iter().filter(|s| !self.known.contains(&s.key.value.as_str())) {
            let key = &setting.key;
            let help = match suggest(&key.value, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", self.known.join(", ")),
            };
            let message = format!("{} has no option `{}`", self.what, key.value);
            self.errors.push(Diagnostic::error("E0215", message).label(key.span, "not known").help(help));
        }
    }

    pub fn invalid(&mut self, setting: &Setting, wanted: &str) {
        let key = &setting.key.value;
        self.errors.push(
            Diagnostic::error("E0215", format!("`{key}` is {wanted}"))
                .label(setting.value.span, "this is not")
                .help(format!("write it as `{key}: …`, with {wanted}")),
        );
    }

    /// A word or a text: the name of a column or of a class.
    fn word(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let setting = self.take(key)?;
        let word = as_word(&setting.value);
        if word.is_none() {
            self.invalid(setting, "a name, or a text in quotes");
        }
        word
    }

    /// A text in quotes.
    pub fn text(&mut self, key: &'static str, wanted: &str) -> Option<Spanned<String>> {
        let setting = self.take(key)?;
        match setting.value.kind.as_ref() {
            ExprKind::Str(text) => Some(Spanned::new(text.clone(), setting.value.span)),
            _ => {
                self.invalid(setting, wanted);
                None
            }
        }
    }

    pub fn one_of<T: Copy>(&mut self, key: &'static str, known: &[(T, &'static str)]) -> Option<Spanned<T>> {
        let setting = self.take(key)?;
        let name = setting.value.as_name();
        if let Some((value, _)) = known.iter().find(|(_, word)| Some(*word) == name) {
            return Some(Spanned::new(*value, setting.value.span));
        }
        let words: Vec<&str> = known.iter().map(|(_, word)| *word).collect();
        let help = match name.and_then(|name| suggest(name, words.iter().copied())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write one of {}", words.join(", ")),
        };
        self.errors.push(
            Diagnostic::error("E0215", format!("`{key}` is one of {}", words.join(", ")))
                .label(setting.value.span, "this is not")
                .help(help),
        );
        None
    }

    /// A number that is written as one, or as a quotient of two.
    pub fn number(
        &mut self,
        key: &'static str,
        wanted: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Option<Spanned<f64>> {
        let setting = self.take(key)?;
        match literal(&setting.value).filter(|x| fits(*x)) {
            Some(x) => Some(Spanned::new(x, setting.value.span)),
            None => {
                self.invalid(setting, wanted);
                None
            }
        }
    }

    pub fn count(&mut self, key: &'static str) -> Option<Spanned<usize>> {
        let setting = self.take(key)?;
        match setting.value.kind.as_ref() {
            ExprKind::Int(n) if (1..=1 << 40).contains(n) => {
                Some(Spanned::new(*n as usize, setting.value.span))
            }
            _ => {
                self.invalid(setting, "an integer from 1 on");
                None
            }
        }
    }

    pub fn flag(&mut self, key: &'static str) -> bool {
        self.one_of(key, &[(true, "true"), (false, "false")]).is_some_and(|flag| flag.value)
    }
}

fn as_word(e: &Expr) -> Option<Spanned<String>> {
    match e.kind.as_ref() {
        ExprKind::Name(word) | ExprKind::Str(word) => Some(Spanned::new(word.clone(), e.span)),
        ExprKind::Int(n) => Some(Spanned::new(n.to_string(), e.span)),
        _ => None,
    }
}

pub fn literal(e: &Expr) -> Option<f64> {
    match e.kind.as_ref() {
        ExprKind::Int(n) => Some(*n as f64),
        ExprKind::Real(x) => Some(*x),
        ExprKind::Binary { op: BinaryOp::Div, left, right, .. } => {
            let (a, b) = (literal(left)?, literal(right)?);
            (b != 0.0).then_some(a / b)
        }
        _ => None,
    }
}

/// What a `data` declaration says.
pub fn data_spec(data: &Data, errors: &mut Vec<Diagnostic>) -> Option<DataSpec> {
    let before = errors.len();
    let format =
        DataFormat::ALL.iter().find(|(_, word)| *word == data.format.value).map(|(format, _)| *format);
    if format.is_none() {
        let words = DataFormat::ALL.map(|(_, word)| word);
        let help = match suggest(&data.format.value, words) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", words.join(", ")),
        };
        let message = format!("there is no data format `{}`", data.format.value);
        errors.push(Diagnostic::error("E0215", message).label(data.format.span, "not known").help(help));
    }
    let mut options = Options::new("data", &data.options, errors);
    let label = options.word("label");
    let target = options.word("target");
    let outcome = match (label, target) {
        (Some(label), Some(target)) => {
            options.errors.push(
                Diagnostic::error("E0215", "data has either a `label` or a `target`")
                    .label(target.span, "a number to predict")
                    .label(label.span, "a class to predict")
                    .help("remove one of them"),
            );
            Outcome::Class(label)
        }
        (Some(label), None) => Outcome::Class(label),
        (None, Some(target)) => Outcome::Number(target),
        (None, None) => Outcome::Implied,
    };
    if format == Some(DataFormat::Csv) && outcome == Outcome::Implied {
        options.errors.push(
            Diagnostic::error("E0215", "this table does not say what is to be predicted")
                .label(data.name.span, "`label` is missing")
                .help("add `label: COLUMN` for classes, or `target: COLUMN` for a number"),
        );
    }
    let positive = options.word("positive");
    let features = columns(&mut options);
    let scale = options.one_of("scale", &Scale::ALL).unwrap_or(Spanned::new(Scale::None, data.span));
    let subset = options.one_of("subset", &Subset::ALL).map_or(Subset::First, |subset| subset.value);
    let split = options.number("split", "a fraction between 0 and 1, such as 0.8", |x| x > 0.0 && x < 1.0);
    let train = options.count("train");
    let test = options.count("test");
    if let (Some(split), Some(other)) = (&split, train.as_ref().or(test.as_ref())) {
        options.errors.push(
            Diagnostic::error("E0215", "data is split by a fraction or by counts, not by both")
                .label(other.span, "a count")
                .label(split.span, "a fraction")
                .help("remove one of them"),
        );
    }
    let classes = options.count("classes");
    options.finish();
    if errors.len() > before {
        return None;
    }
    Some(DataSpec {
        name: data.name.value.clone(),
        format: format?,
        path: data.path.clone(),
        outcome,
        positive,
        features,
        scale,
        subset,
        split,
        train,
        test,
        classes,
        span: data.span,
    })
}

fn columns(options: &mut Options<'_, '_>) -> Vec<Spanned<String>> {
    let Some(setting) = options.take("features") else { return Vec::new() };
    let columns = match setting.value.kind.as_ref() {
        ExprKind::List(items) => items.iter().map(as_word).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    columns.filter(|columns| !columns.is_empty()).unwrap_or_else(|| {
        options.invalid(setting, "a list of columns such as [radius, texture]");
        Vec::new()
    })
}

/// Where a missing option is reported: the declaration's first words.
pub fn missing(what: &str, key: &str, usage: &str, span: Span) -> Diagnostic {
    Diagnostic::error("E0215", format!("{what} lacks its option `{key}`"))
        .label(span, format!("`{key}` is missing"))
        .help(format!("add `{usage}`"))
}
