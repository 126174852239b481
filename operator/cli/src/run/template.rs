//! `${name}` in the command and environment of a service in weft.yaml. `$${` stands for `${` itself. Which names there
//! are is the caller's: a name that it does not know is an error, never an empty string.

use thiserror::Error;

/// Why a text cannot be filled in.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// `${` without `}`.
    #[error("`${{` is not closed with `}}`; write `$${{` for a literal `${{`")]
    Open,
    /// A name nobody gave a value.
    #[error("unknown variable `${{{0}}}`")]
    Unknown(String),
}

/// Gives names their values.
pub(crate) type Values<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The text with every `${name}` replaced.
pub(crate) fn fill(text: &str, value: &Values<'_>) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = after;
            continue;
        }
        let (name, tail) = after.split_once('}').ok_or(TemplateError::Open)?;
        out.push_str(before);
        out.push_str(&value(name).ok_or_else(|| TemplateError::Unknown(name.to_owned()))?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// The names that a text asks for.
pub(crate) fn names(text: &str) -> Result<Vec<String>, TemplateError> {
    let found = std::cell::RefCell::new(Vec::new());
    fill(text, &|name| {
        found.borrow_mut().push(name.to_owned());
        Some(String::new())
    })?;
    Ok(found.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&str, TemplateError>) {
        let value = |name: &str| match name {
            "address" => Some("127.0.4.1".to_owned()),
            "port.http" => Some("8080".to_owned()),
            _ => None,
        };
        assert_eq!(fill(text, &value), expect.map(str::to_owned), "{text}");
    }

    #[test]
    fn names_are_replaced_and_everything_else_stays() {
        check("", Ok(""));
        check("plain $HOME {x} $", Ok("plain $HOME {x} $"));
        check("${address}:${port.http}", Ok("127.0.4.1:8080"));
        check("a${address}b", Ok("a127.0.4.1b"));
        check("$${address}", Ok("${address}"));
        check("$${${address}}", Ok("${127.0.4.1}"));
        check("ä${address}ö", Ok("ä127.0.4.1ö"));
    }

    #[test]
    fn unknown_and_open_names_are_refused() {
        check("${adress}", Err(TemplateError::Unknown("adress".into())));
        check("${}", Err(TemplateError::Unknown(String::new())));
        check("${address", Err(TemplateError::Open));
    }

    #[test]
    fn the_names_asked_for_are_listed() {
        assert_eq!(names("${a}-${b.c}-$${d}"), Ok(vec!["a".to_owned(), "b.c".to_owned()]));
    }
}
