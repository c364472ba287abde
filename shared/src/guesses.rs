//! Estimates how many guesses a password takes, by somebody who knows common words, common patterns and some facts
//! about the user.
//!
//! The method is that of zxcvbn (D. Wheeler, USENIX Security 2016), reduced to deciding whether fewer than a million
//! guesses suffice: a password is split into words, patterns and single characters, each with a number of guesses, and
//! the cheapest split counts. Numbers of guesses are decimal logarithms here. The crate itself was tried and rejected:
//! it adds 1.2 MB to the zip of a function, and takes seconds for 128 arbitrary characters.

use std::ops::Range;

use crate::word_list::{COMMON_PASSWORDS, COMMON_WORDS};

/// Fewer guesses than this, a million, count as easily guessed.
pub(crate) const EASY: f64 = 6.0;

/// An arbitrary character.
const ANY_CHARACTER: f64 = 1.0;
/// A context word: there are only a handful to try.
const CONTEXT_WORD: f64 = 0.5;
/// A word reversed, or with "leet" substitutions: twice as many guesses.
const VARIATION: f64 = 0.301;
/// A year of this century or the last.
const YEAR: f64 = 2.08;
/// A date within a hundred years.
const DATE: f64 = 4.56;

/// Characters of the shortest word that counts as one.
const MIN_WORD: usize = 3;
/// Length of the longest pattern of which a prefix may be no pattern: a date.
const MAX_PATTERN: usize = 8;
/// Maximum arbitrary characters in a row: more exceed [`EASY`].
const MAX_ANY: usize = 5;
/// Maximum parts of a password that is easily guessed with a context word.
const MAX_PARTS: usize = 4;

/// Rows and columns of keyboards, for patterns of adjacent keys.
const KEYBOARD: [&str; 7] = [
    "`1234567890-=",
    "~!@#$%^&*()_+",
    "qwertyuiop[]\\",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "qwertzuiopü+",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/",
];

/// Decimal logarithms of guesses; [`EASY`] means that many or more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guesses {
    /// Without context words.
    pub(crate) common: f64,
    /// With at least one context word.
    pub(crate) context: f64,
}

/// Estimates the guesses for `password`. It and the words of `context` are in lower case and NFKC.
pub(crate) fn estimate(password: &str, context: &[String]) -> Guesses {
    let context = Context::of(context);
    let chars: Vec<char> = password.chars().collect();
    let mut guesses = Cut::of(&chars, &context, true).guesses();
    let count = |n: usize| (0..n).map(|_| 1.0).sum::<f64>();

    // A symbol or two before or after: "Summer2026!".
    let framed: Vec<char> = password
        .trim_matches(|c: char| !c.is_alphanumeric())
        .chars()
        .collect();
    let signs = ANY_CHARACTER * count(chars.len() - framed.len()) + VARIATION;
    if framed.len() < chars.len() && signs < EASY {
        let framed = Cut::of(&framed, &context, true).guesses();
        guesses.common = guesses.common.min(framed.common + signs);
    }

    // Separators within a name or a number: "ali-ce", "12/25/1990".
    let joined: Vec<char> = chars.iter().copied().filter(|c| c.is_alphanumeric()).collect();
    let between = VARIATION * count(chars.len() - joined.len());
    if joined.len() < chars.len() && between < EASY {
        let all_digits = joined.iter().all(char::is_ascii_digit);
        let joined = Cut::of(&joined, &context, true).guesses();
        guesses.context = guesses.context.min(joined.context + between);
        if all_digits {
            guesses.common = guesses.common.min(joined.common + between);
        }
    }
    guesses
}

/// The context words, in every spelling.
struct Context {
    /// As they are.
    plain: Vec<Vec<char>>,
    /// Reversed, and with "leet" undone, forwards and reversed.
    varied: Vec<Vec<char>>,
    /// Those that are numbers.
    numbers: Vec<Vec<char>>,
}

impl Context {
    fn of(words: &[String]) -> Self {
        let mut context = Self {
            plain: words.iter().map(|word| word.chars().collect()).collect(),
            varied: Vec::new(),
            numbers: Vec::new(),
        };
        for word in &context.plain {
            for reading in READINGS {
                let read: Vec<char> = word.iter().map(|c| read(*c, reading)).collect();
                context.varied.push(read.iter().rev().copied().collect());
                context.varied.push(read);
            }
            if word.iter().all(char::is_ascii_digit) {
                context.numbers.push(word.clone());
            }
        }
        context.varied.sort_unstable();
        context.varied.dedup();
        context
    }
}

/// A text in every reading.
struct Text<'a> {
    chars: &'a [char],
    readings: [Vec<char>; READINGS.len()],
    /// The same in ASCII, as the lists are, forwards and reversed; 0 stands for any other character.
    forwards: [Vec<u8>; READINGS.len()],
    backwards: [Vec<u8>; READINGS.len()],
}

impl<'a> Text<'a> {
    fn of(chars: &'a [char]) -> Self {
        let readings = READINGS.map(|reading| chars.iter().map(|c| read(*c, reading)).collect::<Vec<_>>());
        let ascii = |c: &char| u8::try_from(*c).ok().filter(u8::is_ascii).unwrap_or(0);
        Self {
            chars,
            forwards: readings.each_ref().map(|text| text.iter().map(ascii).collect()),
            backwards: readings
                .each_ref()
                .map(|text| text.iter().rev().map(ascii).collect()),
            readings,
        }
    }

    /// The common words in the text, as they are, reversed, or in "leet": by their start, each with its length and
    /// guesses.
    fn words(&self) -> Vec<Vec<(usize, f64)>> {
        let mut words = vec![Vec::new(); self.chars.len()];
        for reading in 0..READINGS.len() {
            let (forwards, backwards) = (&self.forwards[reading], &self.backwards[reading]);
            if reading > 0 && *forwards == self.forwards[0] {
                continue;
            }
            for start in 0..forwards.len() {
                for (length, rank) in ranked_words(&forwards[start..]) {
                    let guesses = if reading > 0 { rank + VARIATION } else { rank };
                    self.add_word(&mut words, reading, start..start + length, guesses);
                }
            }
            for start in 0..backwards.len() {
                for (length, rank) in ranked_words(&backwards[start..]) {
                    let end = backwards.len() - start;
                    self.add_word(&mut words, reading, end - length..end, rank + VARIATION);
                }
            }
        }
        words
    }

    /// Adds a word, unless the same characters have been found in an earlier reading.
    fn add_word(&self, words: &mut [Vec<(usize, f64)>], reading: usize, range: Range<usize>, guesses: f64) {
        let plain = &self.forwards[0][range.clone()];
        let is_read_differently =
            plain.iter().any(u8::is_ascii_alphabetic) && self.forwards[reading][range.clone()] != *plain;
        let words = &mut words[range.start];
        if plain.len() >= MIN_WORD
            && (reading == 0 || is_read_differently)
            && words.iter().all(|(length, _)| *length != plain.len())
        {
            words.push((plain.len(), guesses));
        }
    }
}

/// The cheapest splits of each prefix of a text, by length of the prefix, number of parts, and whether a context word
/// is included.
struct Cut {
    least: Vec<[[f64; 2]; MAX_PARTS + 1]>,
}

impl Cut {
    fn of(chars: &[char], context: &Context, with_repetitions: bool) -> Self {
        let text = Text::of(chars);
        let words = text.words();
        let mut cut = Self {
            least: vec![[[EASY; 2]; MAX_PARTS + 1]; chars.len() + 1],
        };
        cut.least[0][0][0] = 0.0;
        for start in 0..chars.len() {
            // Already hard to guess up to here.
            if cut.least[start][..MAX_PARTS]
                .iter()
                .flatten()
                .all(|least| *least >= EASY)
            {
                continue;
            }
            let rest = &chars[start..];
            let mut any = 0.0;
            for length in 1..=rest.len().min(MAX_ANY) {
                any += ANY_CHARACTER;
                cut.add(start, length, any, false);
            }
            for (length, guesses) in &words[start] {
                cut.add(start, *length, *guesses, false);
            }
            for length in 3..=rest.len() {
                match guesses_of_pattern(&rest[..length]) {
                    Some(guesses) => cut.add(start, length, guesses, false),
                    None if length > MAX_PATTERN => break,
                    None => {}
                }
            }
            cut.add_context(&text, start, context);
            if with_repetitions {
                cut.add_repetitions(chars, start, context);
            }
        }
        cut
    }

    fn add_context(&mut self, text: &Text, start: usize, context: &Context) {
        /// Minimum digits of a telephone number that identify its owner.
        const DIGITS: usize = 5;
        let rest = &text.chars[start..];
        for word in context.plain.iter().filter(|word| rest.starts_with(word)) {
            self.add(start, word.len(), CONTEXT_WORD, true);
        }
        for reading in &text.readings {
            let rest = &reading[start..];
            for word in context.varied.iter().filter(|word| rest.starts_with(word)) {
                self.add(start, word.len(), CONTEXT_WORD + VARIATION, true);
            }
        }
        let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
        for length in DIGITS..=digits {
            let piece = &rest[..length];
            if context
                .numbers
                .iter()
                .any(|number| number.windows(length).any(|window| window == piece))
            {
                self.add(start, length, CONTEXT_WORD, true);
            }
        }
    }

    fn add(&mut self, start: usize, length: usize, guesses: f64, of_context: bool) {
        for parts in 0..MAX_PARTS {
            for with_context in [false, true] {
                let total = self.least[start][parts][usize::from(with_context)] + guesses;
                let least =
                    &mut self.least[start + length][parts + 1][usize::from(with_context || of_context)];
                *least = least.min(total);
            }
        }
    }

    /// Adds the repetition with the shortest period from `start`, unless it already begins one character earlier.
    fn add_repetitions(&mut self, chars: &[char], start: usize, context: &Context) {
        let rest = &chars[start..];
        for period in 1..=rest.len() / 2 {
            let repeated = rest
                .iter()
                .zip(&rest[period..])
                .take_while(|(a, b)| a == b)
                .count();
            if repeated < period || period + repeated < 3 {
                continue;
            }
            if start > 0 && chars[start - 1] == chars[start - 1 + period] && period > 1 {
                continue;
            }
            let unit = if period == 1 {
                Guesses {
                    common: ANY_CHARACTER,
                    context: EASY,
                }
            } else {
                Self::of(&rest[..period], context, false).guesses()
            };
            let mut times = 1.0_f64;
            for end in (period..=period + repeated).step_by(period).skip(1) {
                times += 1.0;
                self.add(start, end, unit.common + times.log10(), false);
                self.add(start, end, unit.context + times.log10(), true);
            }
            // The last repetition may be incomplete.
            let end = period + repeated;
            self.add(start, end, unit.common + (times + 1.0).log10(), false);
            self.add(start, end, unit.context + (times + 1.0).log10(), true);
            return;
        }
    }

    /// zxcvbn's formula: parts may be in any order, and passwords of one part are tried before those of two. The latter
    /// is left out with context words, which are tried in combination from the start.
    fn guesses(&self) -> Guesses {
        let Some(end) = self.least.last() else {
            return Guesses {
                common: EASY,
                context: EASY,
            };
        };
        let [none, one, two, three, four] = end;
        debug_assert!(none[1] >= EASY);
        let tried_before = 10_f64.powi(4);
        let common = one[0].min((2.0 * 10_f64.powf(two[0]) + tried_before).log10());
        let context = one[1]
            .min(two[1] + 2_f64.log10())
            .min(three[1] + 6_f64.log10())
            .min(four[1] + 24_f64.log10());
        Guesses { common, context }
    }
}

/// The common words that `text` begins with: length, and rank to half a decade.
fn ranked_words(text: &[u8]) -> impl Iterator<Item = (usize, f64)> {
    /// For a password listed without a rank: most of these are beyond the first thousand.
    const UNRANKED: f64 = 3.0;
    let ranked = COMMON_WORDS
        .prefixes_of(text)
        .filter_map(|(length, half_decades)| {
            let half_decades: f64 = half_decades.parse().ok()?;
            Some((length, 1.0 + half_decades / 2.0))
        });
    let others = COMMON_PASSWORDS.prefixes_of(text);
    ranked.chain(others.map(|(length, _)| (length, UNRANKED)))
}

/// How "1" is read: as itself (then all other characters are, too), as i, or as l.
const READINGS: [char; 3] = ['1', 'i', 'l'];

/// The letter that a digit or symbol stands for in this reading.
fn read(c: char, reading: char) -> char {
    match c {
        _ if reading == READINGS[0] => c,
        '0' => 'o',
        '1' | '!' | '|' => reading,
        '2' => 'z',
        '3' | '€' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '6' | '9' => 'g',
        '7' | '+' => 't',
        '8' => 'b',
        other => other,
    }
}

/// The guesses for a sequence of code points, adjacent keys, a year or a date, of at least three characters.
fn guesses_of_pattern(part: &[char]) -> Option<f64> {
    let length = part.iter().fold(0.0_f64, |length, _| length + 1.0).log10();
    let steps = |step: i64| {
        part.windows(2)
            .all(|pair| i64::from(u32::from(pair[1])) - i64::from(u32::from(pair[0])) == step)
    };
    if [1, -1, 2, -2].into_iter().any(steps) {
        return Some(ANY_CHARACTER + length);
    }
    let forwards: String = part.iter().collect();
    let backwards: String = part.iter().rev().collect();
    let in_a_row = |text: &str| KEYBOARD.iter().any(|keys| keys.contains(text));
    if in_a_row(&forwards) || in_a_row(&backwards) {
        return Some(ANY_CHARACTER + VARIATION + length);
    }
    if !forwards.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| forwards[range].parse::<u32>().unwrap_or(0);
    let is_date = |day: u32, month: u32| {
        (1..=31).contains(&day) && (1..=12).contains(&month)
            || (1..=31).contains(&month) && (1..=12).contains(&day)
    };
    let is_year = |year: u32| (1900..2100).contains(&year);
    match part.len() {
        4 if is_year(number(0..4)) => Some(YEAR),
        6 if is_date(number(0..2), number(2..4)) || is_date(number(2..4), number(4..6)) => Some(DATE),
        8 if is_date(number(0..2), number(2..4)) && is_year(number(4..8))
            || is_date(number(4..6), number(6..8)) && is_year(number(0..4)) =>
        {
            Some(DATE)
        }
        _ => None,
    }
}
