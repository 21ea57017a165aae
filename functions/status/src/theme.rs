//! The two themes of a dashboard, and how the page looks in each.

use serde::Deserialize;

/// The theme of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Theme {
    Dark,
    #[default]
    #[serde(other)]
    Light,
}

/// The colours of a theme. Every pair that is used for text has a contrast of at least 4.5 to 1; a test looks.
pub(crate) struct Colours {
    pub(crate) ground: &'static str,
    pub(crate) panel: &'static str,
    pub(crate) text: &'static str,
    pub(crate) quiet: &'static str,
    pub(crate) line: &'static str,
    pub(crate) link: &'static str,
    pub(crate) canary: &'static str,
    pub(crate) healthy: &'static str,
    pub(crate) unhealthy: &'static str,
    pub(crate) inconclusive: &'static str,
}

impl Theme {
    pub(crate) const fn colours(self) -> Colours {
        match self {
            Self::Light => Colours {
                ground: "#ffffff",
                panel: "#f4f5f6",
                text: "#16191f",
                quiet: "#4f5864",
                line: "#d1d6db",
                link: "#0759a5",
                canary: "#6f42c1",
                healthy: "#176f2c",
                unhealthy: "#b3261e",
                inconclusive: "#6d5300",
            },
            Self::Dark => Colours {
                ground: "#0f1620",
                panel: "#1b2531",
                text: "#e8eaed",
                quiet: "#aab4c0",
                line: "#3c4957",
                link: "#74b9ff",
                canary: "#b9a0ff",
                healthy: "#5bd879",
                unhealthy: "#ff9087",
                inconclusive: "#f0c850",
            },
        }
    }
}

/// The page's style sheet.
pub(crate) fn style(theme: Theme) -> String {
    let Colours {
        ground,
        panel,
        text,
        quiet,
        line,
        link,
        healthy,
        unhealthy,
        inconclusive,
        canary,
    } = theme.colours();
    format!(
        "
.serin {{ background: {ground}; color: {text}; font: 14px/1.45 'Amazon Ember', 'Helvetica Neue', Roboto, Arial, sans-serif;
  padding: 12px 16px; overflow-wrap: anywhere; box-sizing: border-box; }}
.serin * {{ box-sizing: border-box; }}
.serin h1 {{ font-size: 20px; line-height: 1.3; margin: 0 0 4px; font-weight: 600; color: {text}; }}
.serin h2 {{ font-size: 15px; margin: 20px 0 6px; font-weight: 600; color: {text}; }}
.serin p {{ margin: 4px 0; color: {text}; }}
.serin .quiet {{ color: {quiet}; }}
.serin a {{ color: {link}; text-decoration: underline; cursor: pointer; }}
.serin nav {{ display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 2px 0 10px; }}
.serin .head {{ display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: baseline; }}
.serin .badge {{ border: 1px solid currentColor; border-radius: 10px; padding: 0 9px; font-size: 13px; font-weight: 600;
  white-space: nowrap; }}
.serin .good {{ color: {healthy}; }}
.serin .bad {{ color: {unhealthy}; }}
.serin .open {{ color: {inconclusive}; }}
.serin .busy {{ color: {canary}; }}
.serin table {{ border-collapse: collapse; width: 100%; font-size: 13px; color: {text}; background: {ground}; }}
.serin th, .serin td {{ text-align: left; vertical-align: top; padding: 5px 10px 5px 0; color: {text}; background: {ground};
  border: 0; border-top: 1px solid {line}; }}
.serin th {{ color: {quiet}; font-weight: 600; border-top: 0; }}
.serin tr.why td {{ border-top: 0; padding-top: 0; color: {quiet}; }}
.serin td.time {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
.serin td.name {{ color: {quiet}; width: 26%; }}
.serin .decide {{ background: {panel}; border: 1px solid {line}; border-radius: 8px; padding: 10px 12px; margin: 14px 0; }}
.serin .decide form {{ display: flex; flex-wrap: wrap; gap: 8px 10px; align-items: center; margin: 0; }}
.serin .decide label {{ color: {text}; }}
.serin .decide input {{ background: {ground}; color: {text}; border: 1px solid {quiet}; border-radius: 6px; padding: 4px 8px;
  font: inherit; width: 180px; max-width: 100%; }}
.serin .decide a {{ border: 1px solid {link}; border-radius: 14px; padding: 3px 14px; text-decoration: none; font-weight: 600;
  background: {ground}; white-space: nowrap; }}
.serin .decide a.danger {{ border-color: {unhealthy}; color: {unhealthy}; }}
.serin .decide p {{ font-size: 13px; margin: 8px 0 0; color: {quiet}; }}
.serin .left {{ border-left: 4px solid {unhealthy}; padding: 2px 0 2px 12px; margin: 8px 0; }}
.serin pre, .serin code {{ font: 12px/1.45 Monaco, Menlo, Consolas, 'DejaVu Sans Mono', monospace; background: {panel};
  color: {text}; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 4px; }}
.serin pre {{ padding: 8px 10px; margin: 4px 0; }}
.serin code {{ padding: 1px 4px; }}
.serin details {{ margin: 14px 0 0; }}
.serin summary {{ cursor: pointer; color: {text}; font-weight: 600; }}
.serin svg {{ display: block; max-width: 100%; height: auto; margin: 8px 0 2px; }}
.serin svg text {{ font: 11px 'Amazon Ember', 'Helvetica Neue', Roboto, Arial, sans-serif; }}
.serin .legend {{ display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 12px; color: {quiet}; align-items: center; }}
.serin .legend span {{ display: inline-flex; gap: 5px; align-items: center; }}
.serin .legend svg {{ display: inline-block; margin: 0; }}
"
    )
}
