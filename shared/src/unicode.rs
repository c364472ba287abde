//! Unicode properties that decide whether a userid is accepted, from the data of ICU4X, which is linked anyway for
//! internationalized host names.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup, Script};
use icu_properties::script::{ScriptExtensionsSet, ScriptWithExtensions};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Characters that are blank although no property says so: braille pattern blank, Khitan filler, null notehead,
/// hieroglyph full blank and half blank.
const BLANK: [char; 5] = ['\u{2800}', '\u{16fe4}', '\u{1d159}', '\u{13441}', '\u{13442}'];

/// The scripts that UTS #39 (§5.2) allows together at its level "highly restrictive".
const TOGETHER: [&[Script]; 3] = [
    &[Script::Latin, Script::Han, Script::Hiragana, Script::Katakana],
    &[Script::Latin, Script::Han, Script::Bopomofo],
    &[Script::Latin, Script::Han, Script::Hangul],
];

/// Whether a character is visible: not white space, control, format, private-use or unassigned, not ignored in display
/// (Hangul fillers, variation selectors, …), and not blank.
pub(crate) fn is_visible(c: char) -> bool {
    let invisible = GeneralCategoryGroup::Other.contains(CodePointMapData::<GeneralCategory>::new().get(c))
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c);
    !invisible && !c.is_whitespace() && !BLANK.contains(&c)
}

/// Whether a character combines with the one before it.
pub(crate) fn is_combining_mark(c: char) -> bool {
    GeneralCategoryGroup::Mark.contains(CodePointMapData::<GeneralCategory>::new().get(c))
}

/// Whether a text is in one script, or in scripts that are allowed together. Characters common to all scripts (digits,
/// punctuation, most symbols) are allowed with any; one shared by some scripts is allowed with each of these.
pub(crate) fn is_highly_restrictive(text: &str) -> bool {
    let scripts: Vec<ScriptExtensionsSet> = text
        .chars()
        .map(|c| ScriptWithExtensions::new().get_script_extensions_val(c))
        .filter(|scripts| !scripts.contains(&Script::Common) && !scripts.contains(&Script::Inherited))
        .collect();
    let Some(first) = scripts.first() else {
        return true;
    };
    let one_script = first
        .iter()
        .any(|script| scripts.iter().all(|scripts| scripts.contains(&script)));
    one_script
        || TOGETHER.iter().any(|together| {
            scripts
                .iter()
                .all(|scripts| together.iter().any(|script| scripts.contains(script)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_combined_only_as_uts_39_allows() {
        for text in [
            "alice",
            "иван",
            "γιώργος",
            "דוד",
            "محمد",
            "राम",
            "李小龍",
            "ひらがな",
            "カタカナー",
            "김철수",
            "ㄅㄆㄇ",
            "a李",
            "李ひカa",
            "李ㄅa",
            "李김a",
            "alice_2026",
            "иван2026",
            "a@b.c",
            "http://x",
            "🦀",
            "12",
            "i\u{307}stanbul",
            "é",
            "и\u{306}",
            "l·l",
            "々",
            "〆切",
            "aー",
        ] {
            assert!(is_highly_restrictive(text), "{text}");
        }
        for text in [
            "\u{430}pple",
            "alic\u{435}",
            "αlice",
            "иванa",
            "ひ김",
            "ㄅひ",
            "ㄅ김",
            "李и",
            "李γ",
            "aא",
            "иγ",
            "ԝorԁ\u{77}",
            "ᎪᏞlice",
            "аㄅ",
        ] {
            assert!(!is_highly_restrictive(text), "{text}");
        }
    }

    #[test]
    fn characters_ignored_in_display_and_blanks_are_not_visible() {
        for c in [
            '\u{3164}',
            '\u{34f}',
            '\u{115f}',
            '\u{1160}',
            '\u{ffa0}',
            '\u{17b4}',
            '\u{180b}',
            '\u{fe0f}',
            '\u{e0100}',
            '\u{2800}',
            '\u{16fe4}',
            '\u{ad}',
            '\u{200b}',
            '\u{2065}',
            '\u{e0fff}',
            ' ',
            '\u{3000}',
            '\0',
            '\u{e000}',
            '\u{378}',
        ] {
            assert!(!is_visible(c), "{}", c.escape_unicode());
        }
        assert!("aж李🦀_\u{301}".chars().all(is_visible));
    }
}
