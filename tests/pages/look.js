// Looks at every element of the pages: does it overflow, and can its text be read?
const channel = (value) => { value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
const brightness = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
const colour = (text) => (text.match(/[\d.]+/g) || []).map(Number);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = colour(getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] === 1) return found;
  }
  return [255, 255, 255];
};
const said = (element) => [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join(" ").trim();
const found = { overflows: [], pale: [], texts: 0, images: document.images.length, scripts: document.querySelectorAll(".serin script").length };
for (const widget of document.querySelectorAll(".widget")) {
  const right = widget.getBoundingClientRect().right + 0.5;
  for (const element of widget.querySelectorAll(".serin *")) {
    if (["STYLE", "TITLE", "CWDB-ACTION"].includes(element.tagName.toUpperCase())) continue;
    const box = element.getBoundingClientRect();
    const name = element.tagName + " " + said(element).slice(0, 60);
    if (box.right > right || box.left < -0.5) found.overflows.push(name);
    const text = said(element);
    if (!text || box.width === 0) continue;
    found.texts += 1;
    const style = getComputedStyle(element);
    const pen = colour(element.ownerSVGElement ? style.fill : style.color);
    const [bright, dark] = [brightness(pen), brightness(ground(element))].sort((one, other) => other - one);
    if ((bright + 0.05) / (dark + 0.05) < 4.5) found.pale.push(name + " " + pen + " on " + ground(element));
  }
}
document.title = JSON.stringify(found);
