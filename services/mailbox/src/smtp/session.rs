//! What is said in a conversation: one line in, an answer out. No IO.

use mail_parser::MessageParser;
use time::OffsetDateTime;

use super::{Broken, Line};
use crate::messages::{Channel, Message, bounces};

/// What the server says first.
pub const GREETING: &str = "220 mailbox.shop.example ESMTP\r\n";
/// What it says to a mail that it keeps.
pub const TAKEN: &str = "250 2.0.0 kept\r\n";

const LARGEST: usize = 1024 * 1024;
const MOST_RECIPIENTS: usize = 100;

/// What is to be done after a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for more.
    Listen,
    /// Answer.
    Say(&'static str),
    /// A mail is complete.
    Take(Mail),
    /// Answer and close.
    End(&'static str),
}

/// A mail as it came.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mail {
    from: String,
    to: Vec<String>,
    data: Vec<u8>,
}

/// One conversation.
#[derive(Debug, Default)]
pub struct Session {
    stage: Stage,
    mail: Mail,
}

/// How far a conversation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The client has not said who it is.
    #[default]
    New,
    /// It may begin a mail.
    Greeted,
    /// It has said who the mail is from.
    Sender,
    /// It sends the mail.
    Data,
    /// It sends a mail of which nothing more is kept.
    TooLarge,
}

impl Session {
    /// A conversation that begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one line.
    pub fn line(&mut self, line: Line<'_>) -> Next {
        match line {
            Err(Broken::TooLong) => Next::End("500 5.5.2 a line has at most 1000 octets\r\n"),
            Err(Broken::Bare) => Next::End("500 5.5.2 a line ends in CR LF and holds neither\r\n"),
            Ok(line) if matches!(self.stage, Stage::Data | Stage::TooLarge) => self.data(line),
            Ok(line) => match std::str::from_utf8(line) {
                Ok(text) => self.command(text),
                Err(_) => Next::Say("500 5.5.2 not text\r\n"),
            },
        }
    }

    fn data(&mut self, line: &[u8]) -> Next {
        if line == b"." {
            let too_large = self.stage == Stage::TooLarge;
            let mail = self.begin_again();
            return if too_large { Next::Say("552 5.3.4 too large\r\n") } else { Next::Take(mail) };
        }
        // A line that begins with a dot has one more, so that none but the last is a dot alone.
        let line = line.strip_prefix(b".").unwrap_or(line);
        if self.mail.data.len() + line.len() > LARGEST {
            self.stage = Stage::TooLarge;
        } else {
            self.mail.data.extend_from_slice(line);
            self.mail.data.extend_from_slice(b"\r\n");
        }
        Next::Listen
    }

    fn command(&mut self, text: &str) -> Next {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.greet("250-mailbox.shop.example\r\n250-SIZE 1048576\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
            }
            "HELO" => self.greet("250 mailbox.shop.example\r\n"),
            "MAIL" => self.mail_from(rest),
            "RCPT" => self.rcpt_to(rest),
            "DATA" => self.begin_data(),
            "RSET" => {
                if self.stage != Stage::New {
                    self.begin_again();
                }
                Next::Say("250 2.0.0 forgotten\r\n")
            }
            "NOOP" => Next::Say("250 2.0.0 still here\r\n"),
            "QUIT" => Next::End("221 2.0.0 goodbye\r\n"),
            _ => Next::Say("502 5.5.1 not understood\r\n"),
        }
    }

    fn greet(&mut self, reply: &'static str) -> Next {
        self.begin_again();
        Next::Say(reply)
    }

    /// Ready for another mail; returns what there is of this one.
    fn begin_again(&mut self) -> Mail {
        self.stage = Stage::Greeted;
        std::mem::take(&mut self.mail)
    }

    fn mail_from(&mut self, rest: &str) -> Next {
        if self.stage != Stage::Greeted {
            return Next::Say("503 5.5.1 EHLO first, and one MAIL at a time\r\n");
        }
        let Some(from) = address("FROM:", rest) else {
            return Next::Say("501 5.5.4 MAIL FROM:<address>\r\n");
        };
        self.stage = Stage::Sender;
        from.clone_into(&mut self.mail.from);
        Next::Say("250 2.1.0 go on\r\n")
    }

    fn rcpt_to(&mut self, rest: &str) -> Next {
        if self.stage != Stage::Sender {
            return Next::Say("503 5.5.1 MAIL first\r\n");
        }
        match address("TO:", rest) {
            None | Some("") => Next::Say("501 5.5.4 RCPT TO:<address>\r\n"),
            Some(_) if self.mail.to.len() == MOST_RECIPIENTS => {
                Next::Say("452 4.5.3 too many recipients\r\n")
            }
            Some(to) if bounces(to) => Next::Say("550 5.1.1 there is nobody of that address\r\n"),
            Some(to) => {
                self.mail.to.push(to.to_owned());
                Next::Say("250 2.1.5 go on\r\n")
            }
        }
    }

    fn begin_data(&mut self) -> Next {
        if self.mail.to.is_empty() {
            return Next::Say("503 5.5.1 RCPT first\r\n");
        }
        self.stage = Stage::Data;
        Next::Say("354 end with a dot alone\r\n")
    }
}

/// The address in `FROM:<address> parameters`.
fn address<'a>(word: &str, rest: &'a str) -> Option<&'a str> {
    let (given, rest) = rest.trim_start().split_at_checked(word.len())?;
    let rest = given.eq_ignore_ascii_case(word).then(|| rest.trim_start())?;
    let (address, parameters) = rest.strip_prefix('<')?.split_once('>')?;
    (parameters.is_empty() || parameters.starts_with(' ')).then_some(address)
}

impl Mail {
    /// The message in it. What cannot be read as one is shown as it came.
    pub fn message(self, time: OffsetDateTime) -> Message {
        let parsed = MessageParser::default().parse(&self.data);
        let text = |part: Option<String>| part.unwrap_or_default();
        let id = parsed.as_ref().and_then(|mail| mail.message_id()).map(str::to_owned);
        let body = parsed.as_ref().and_then(|mail| mail.body_text(0)).map(|body| body.replace("\r\n", "\n"));
        Message {
            channel: Channel::Email,
            id: text(id),
            from: self.from,
            to: self.to,
            subject: text(parsed.as_ref().and_then(|mail| mail.subject()).map(str::to_owned)),
            text: body.unwrap_or_else(|| String::from_utf8_lossy(&self.data).into_owned()),
            time,
            deliveries: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes that a conversation is answered with, and the mail taken.
    fn check(lines: &[&str], expect: &[&str]) -> Option<Mail> {
        let mut session = Session::new();
        let (mut codes, mut taken) = (Vec::new(), None);
        for line in lines {
            match session.line(Ok(line.as_bytes())) {
                Next::Listen => {}
                Next::Say(reply) | Next::End(reply) => codes.extend(reply.get(..3).map(str::to_owned)),
                Next::Take(mail) => {
                    codes.push("250".into());
                    taken = Some(mail);
                }
            }
        }
        assert_eq!(codes, expect, "{lines:?}");
        taken
    }

    #[test]
    fn a_mail_is_taken_as_it_was_sent() {
        let mail = check(
            &[
                "EHLO client",
                "MAIL FROM:<shop@shop.example> BODY=8BITMIME",
                "RCPT TO:<ann@example.com>",
                "DATA",
                "Message-ID: <1@shop>",
                "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=",
                "",
                "..dot",
                "two",
                ".",
                "QUIT",
            ],
            &["250", "250", "250", "354", "250", "221"],
        );
        let message = mail.unwrap().message(OffsetDateTime::UNIX_EPOCH);
        assert_eq!((message.id.as_str(), message.subject.as_str()), ("1@shop", "Grüße"));
        assert_eq!((message.text.as_str(), message.to[0].as_str()), (".dot\ntwo\n", "ann@example.com"));
    }

    #[test]
    fn what_comes_out_of_turn_is_refused() {
        check(&["MAIL FROM:<a@b>"], &["503"]);
        check(&["EHLO x", "RCPT TO:<a@b>", "DATA"], &["250", "503", "503"]);
        check(&["EHLO x", "MAIL FROM:<a@b>", "MAIL FROM:<a@b>", "DATA"], &["250", "250", "503", "503"]);
        check(&["EHLO x", "MAIL FROM:<a@b>", "RSET", "RCPT TO:<a@b>"], &["250", "250", "250", "503"]);
        check(
            &["EHLO x", "MAIL FROM a@b", "MAIL TO:<a@b>", "MAIL FROM:<a@b>x"],
            &["250", "501", "501", "501"],
        );
        check(&["EHLO x", "MAIL FROM:<>", "RCPT TO:<>", "RCPT TO:<bounce@b>"], &["250", "250", "501", "550"]);
        check(&["STARTTLS", "", "NOOP"], &["502", "502", "250"]);
    }

    #[test]
    fn a_second_mail_begins_anew() {
        let one = ["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "x", "."];
        let lines = [["HELO x"].as_slice(), &one, &one].concat();
        let mail = check(&lines, &["250", "250", "250", "354", "250", "250", "250", "354", "250"]);
        assert_eq!(mail.unwrap().to, ["c@d"]);
    }

    #[test]
    fn what_is_too_large_is_refused_and_the_conversation_goes_on() {
        let long = "x".repeat(998);
        let mut lines = vec!["EHLO x", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"];
        lines.extend(std::iter::repeat_n(long.as_str(), 1100));
        lines.extend([".", "MAIL FROM:<a@b>"]);
        assert!(check(&lines, &["250", "250", "250", "354", "552", "250"]).is_none());
    }

    #[test]
    fn a_broken_line_ends_it() {
        for broken in [Broken::Bare, Broken::TooLong] {
            assert!(matches!(Session::new().line(Err(broken)), Next::End(_)), "{broken:?}");
        }
        assert!(matches!(Session::new().line(Ok(b"\xff")), Next::Say("500 5.5.2 not text\r\n")));
    }
}
