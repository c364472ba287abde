//! Properties of Unicode by which a userid is judged, from the data of ICU4X, which the resolution of host names brings
//! along anyway.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup, Script};
use icu_properties::script::{ScriptExtensionsSet, ScriptWithExtensions};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Characters that are blank although no property says so: braille pattern blank, Khitan filler, null notehead,
/// hieroglyph full and half blank.
const BLANK: [char; 5] = ['\u{2800}', '\u{16fe4}', '\u{1d159}', '\u{13441}', '\u{13442}'];

/// The sets of scripts that UTS #39 (§5.2) lets stand together at its level "highly restrictive".
const TOGETHER: [&[Script]; 3] = [
    &[Script::Latin, Script::Han, Script::Hiragana, Script::Katakana],
    &[Script::Latin, Script::Han, Script::Bopomofo],
    &[Script::Latin, Script::Han, Script::Hangul],
];

/// Whether there is something to see: neither white space nor control, format, private-use or unassigned, nor
/// what is ignored in display (the Hangul fillers, variation selectors, …), nor blank.
pub(crate) fn is_visible(c: char) -> bool {
    let invisible = GeneralCategoryGroup::Other.contains(CodePointMapData::<GeneralCategory>::new().get(c))
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c);
    !invisible && !c.is_whitespace() && !BLANK.contains(&c)
}

/// Whether the character belongs to the one before it.
pub(crate) fn is_combining_mark(c: char) -> bool {
    GeneralCategoryGroup::Mark.contains(CodePointMapData::<GeneralCategory>::new().get(c))
}

/// Whether a text is of one script, or of those that may stand together. Characters of every script (digits,
/// punctuation, most symbols) go with any; one that some scripts share goes with each of those.
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
    fn scripts_stand_alone_or_together_as_uts_39_has_it() {
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
    fn what_is_ignored_in_display_or_blank_is_not_visible() {
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
