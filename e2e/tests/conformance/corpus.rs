//! Reads the corpus files: cases as text, so that who adds one writes down bytes and nothing else. The format stands at
//! the head of `corpus/requests.txt`.

/// One case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// What is expected, answer by answer.
    pub(crate) expect: Vec<String>,
    /// Pieces that forwarded bytes hold.
    pub(crate) holds: Vec<String>,
    /// Pieces that forwarded bytes do not hold.
    pub(crate) lacks: Vec<String>,
    pub(crate) bytes: Vec<u8>,
}

/// All cases of a file; panics where it breaks the format.
pub(crate) fn cases(text: &str) -> Vec<Case> {
    let mut all: Vec<Case> = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        if let Some(title) = line.strip_prefix("= ") {
            let mut parts = title.split(" | ");
            let (name, expect) = (parts.next().unwrap(), parts.next().unwrap());
            assert!(parts.next().is_some(), "a case says why: {line}");
            let expect = expect.split(' ').map(str::to_owned).collect();
            all.push(Case { name: name.to_owned(), expect, ..Case::default() });
            continue;
        }
        let case = all.last_mut().expect("a file begins with a case");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        match line.split_at(line.len().min(2)) {
            ("+ ", piece) => case.holds.push(text(decode(piece))),
            ("- ", piece) => case.lacks.push(text(decode(piece))),
            _ => case.bytes.extend(decode(line)),
        }
    }
    all
}

/// Resolves `\r \n \t \0 \\ \xHH` and `\{N:text}`.
fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let (kind, after) = escape.split_at(1);
        rest = after;
        match kind {
            "r" => out.push(b'\r'),
            "n" => out.push(b'\n'),
            "t" => out.push(b'\t'),
            "0" => out.push(0),
            "x" => {
                let (digits, after) = after.split_at(2);
                out.push(u8::from_str_radix(digits, 16).unwrap());
                rest = after;
            }
            "{" => {
                let (inner, after) = after.split_once('}').unwrap();
                let (times, piece) = inner.split_once(':').unwrap();
                out.extend(decode(piece).repeat(times.parse().unwrap()));
                rest = after;
            }
            other => panic!("no escape \\{other} in {text:?}"),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}
