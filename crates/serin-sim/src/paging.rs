//! Pages of lists: small, so that callers must ask again.

/// One page of `items`, and the token of the next; `None` when the token is not one of ours.
pub(crate) fn page<T: Clone>(
    items: &[T],
    size: usize,
    limit: Option<i32>,
    token: Option<&str>,
) -> Option<(Vec<T>, Option<String>)> {
    let start: usize = match token {
        None => 0,
        Some(token) => token.strip_prefix("page-from-")?.parse().ok()?,
    };
    let limit = limit.map_or(size, |limit| {
        usize::try_from(limit).unwrap_or(1).max(1).min(size)
    });
    let end = start.saturating_add(limit).min(items.len());
    let next = (end < items.len()).then(|| format!("page-from-{end}"));
    Some((items.get(start..end)?.to_vec(), next))
}
