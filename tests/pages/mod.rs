//! The status page in a browser: it fits, it can be read, and what others wrote stays text.

use std::path::PathBuf;

use serde::Deserialize;
use serin_driver::pages::{Browser, MARKUP, pages, standalone};

/// What the script has found.
#[derive(Debug, Deserialize)]
struct Found {
    overflows: Vec<String>,
    pale: Vec<String>,
    texts: usize,
    images: usize,
    scripts: usize,
}

fn look(browser: &Browser, name: &str, document: &str) -> Found {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("status-{name}.html"));
    let script = include_str!("look.js");
    std::fs::write(&file, format!("{document}<script>{script}</script>")).unwrap();
    let dumped = browser.document(&file);
    let (_, title) = dumped.split_once("<title>").unwrap();
    let title = title.split("</title>").next().unwrap();
    let title = title
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    serde_json::from_str(&title).unwrap()
}

#[tokio::test]
async fn every_page_fits_and_can_be_read_in_both_themes_and_markup_stays_text() {
    let browser = Browser::find().unwrap_or_else(|sentence| panic!("{sentence}"));
    let pages = pages().await;
    for theme in ["light", "dark"] {
        for width in [600, 1200] {
            let mut drawn = Vec::new();
            for page in &pages {
                drawn.push(page.html(theme, width).await);
            }
            assert!(
                drawn
                    .iter()
                    .filter(|page| page.contains("&lt;img src=x"))
                    .count()
                    >= 3,
                "{MARKUP} is shown by the list, a deployment and a refusal"
            );
            let document = standalone(&drawn, theme, width);
            let found = look(&browser, &format!("{theme}-{width}"), &document);
            assert!(found.overflows.is_empty(), "{theme} {width}: {found:#?}");
            assert!(found.pale.is_empty(), "{theme} {width}: {found:#?}");
            assert!(found.texts > 200, "{theme} {width}: {found:#?}");
            assert_eq!((found.images, found.scripts), (0, 0), "{theme} {width}");
        }
    }
}

#[test]
fn the_look_notices_what_is_too_wide_and_too_pale() {
    let browser = Browser::find().unwrap_or_else(|sentence| panic!("{sentence}"));
    let bad = r#"<div class="serin"><p style="width: 700px">wide</p><p style="color: #999">pale</p><img src="x:"></div>"#;
    let found = look(
        &browser,
        "bad",
        &standalone(&[bad.to_owned()], "light", 600),
    );
    assert_eq!(found.overflows, ["P wide"]);
    assert_eq!(found.pale.len(), 1, "{found:?}");
    assert_eq!(found.images, 1);
}
