//! What a check found, and how it is told: a mark, a sentence, and what to do.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    /// As it should be.
    Ok,
    /// Works, but probably not as meant; or cannot be looked at.
    Warning,
    /// Does not work.
    Error,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// What it is about, `webhooks`.
    pub(crate) section: &'static str,
    /// How it ended.
    pub(crate) result: Mark,
    /// What was found.
    pub(crate) message: String,
    /// What to do about it; empty where there is nothing to do.
    pub(crate) remedy: String,
}

/// Checks of one section, in the making.
#[derive(Debug)]
pub(crate) struct Section {
    name: &'static str,
    lines: Vec<Line>,
}

impl Section {
    /// A section without checks yet.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, lines: Vec::new() }
    }

    /// It is as it should be.
    pub(crate) fn ok(&mut self, message: impl Into<String>) {
        self.add(Mark::Ok, message.into(), String::new());
    }

    /// It works, but probably not as meant.
    pub(crate) fn warning(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Mark::Warning, message.into(), remedy.into());
    }

    /// It does not work.
    pub(crate) fn error(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Mark::Error, message.into(), remedy.into());
    }

    /// Nobody knows: the API server would not say.
    pub(crate) fn unseen(&mut self, what: &str, why: &str) {
        self.add(Mark::Warning, format!("{what} cannot be looked at: {why}"), String::new());
    }

    /// The checks.
    pub(crate) fn lines(self) -> Vec<Line> {
        self.lines
    }

    fn add(&mut self, result: Mark, message: String, remedy: String) {
        self.lines.push(Line { section: self.name, result, message, remedy });
    }
}

/// All checks.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    ok: bool,
    checks: Vec<Line>,
}

impl Report {
    /// Of these checks.
    pub(crate) fn new(checks: Vec<Line>) -> Self {
        Self { ok: checks.iter().all(|line| line.result != Mark::Error), checks }
    }

    /// Whether nothing is wrong; there may be warnings.
    pub(crate) fn is_ok(&self) -> bool {
        self.ok
    }

    /// For people.
    pub(crate) fn lines(&self, cluster: &str) -> Vec<String> {
        let mut out = vec![format!("cluster {cluster}")];
        let mut section = "";
        for line in &self.checks {
            if line.section != section {
                section = line.section;
                out.extend([String::new(), section.to_owned()]);
            }
            let mark = match line.result {
                Mark::Ok => '✓',
                Mark::Warning => '!',
                Mark::Error => '✗',
            };
            out.push(format!("  {mark} {}", line.message));
            if !line.remedy.is_empty() {
                out.push(format!("      {}", line.remedy));
            }
        }
        out.extend([String::new(), self.summary()]);
        out
    }

    fn summary(&self) -> String {
        let count = |mark| self.checks.iter().filter(|line| line.result == mark).count();
        let (errors, warnings) = (count(Mark::Error), count(Mark::Warning));
        let told =
            |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        let verdict = if self.ok { "ok" } else { "not ok" };
        format!(
            "{verdict}: {}, {}, {}",
            told(self.checks.len(), "check"),
            told(errors, "error"),
            told(warnings, "warning")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_a_mark_and_its_remedy_below() {
        let mut first = Section::new("kubernetes");
        first.ok("v1.34.4 has native sidecars");
        let mut second = Section::new("webhooks");
        second.error("the injector does not answer", "look at its log");
        second.unseen("rights", "forbidden");
        let report = Report::new([first.lines(), second.lines()].concat());
        let expect = "\
cluster kind-weft

kubernetes
  ✓ v1.34.4 has native sidecars

webhooks
  ✗ the injector does not answer
      look at its log
  ! rights cannot be looked at: forbidden

not ok: 3 checks, 1 error, 1 warning";
        assert_eq!(report.lines("kind-weft").join("\n"), expect);
        assert!(!report.is_ok());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["ok"], &json["checks"][1]["result"]), (&false.into(), &"error".into()));
    }
}
