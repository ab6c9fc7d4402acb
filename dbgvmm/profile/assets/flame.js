// Zoom (click a frame), search, and the switch between guest time and VMM time. Everything stays inside this one svg.
(function () {
  "use strict";
  const svg = document.currentScript.closest("svg");
  const margin = +svg.dataset.margin, width = +svg.dataset.width, character = +svg.dataset.character;
  const views = [...svg.querySelectorAll(".view")];
  const details = svg.querySelector(".details");
  let view = views[0];

  const frames = (of) => [...of.querySelectorAll(".f")];
  const lines = (frame) => frame.querySelector("title").textContent.split("\n");
  const box = (frame) => ({ d: +frame.dataset.d, s: +frame.dataset.s, w: +frame.dataset.w });

  function fitted(name, pixels) {
    const room = Math.floor((pixels - 6) / character);
    return name.length <= room ? name : room >= 3 ? name.slice(0, room - 1) + "…" : "";
  }

  function place(frame, x, w, above) {
    frame.style.display = w < 0.1 ? "none" : "";
    frame.classList.toggle("above", above);
    const rect = frame.querySelector("rect"), text = frame.querySelector("text");
    rect.setAttribute("x", x);
    rect.setAttribute("width", w);
    text.setAttribute("x", x + 4);
    text.textContent = fitted(lines(frame)[0], w);
  }

  function zoom(to) {
    const target = box(to), scale = width / target.w, end = target.s + target.w;
    for (const frame of frames(view)) {
      const b = box(frame);
      if (b.d < target.d && b.s <= target.s && b.s + b.w >= end) place(frame, margin, width, true);
      else if (b.d < target.d || b.s < target.s || b.s + b.w > end) place(frame, margin, 0, false);
      else place(frame, margin + (b.s - target.s) * scale, b.w * scale, false);
    }
  }

  function tell(text) { details.textContent = text || " "; }

  function search(text) {
    let matches = () => false;
    if (text) {
      try {
        const pattern = new RegExp(text, "i");
        matches = (name) => pattern.test(name);
      } catch (error) {
        matches = (name) => name.toLowerCase().includes(text.toLowerCase());
      }
    }
    let covered = 0, until = -1, found = 0;
    for (const frame of frames(view).sort((a, b) => box(a).s - box(b).s || box(a).d - box(b).d)) {
      const hit = matches(lines(frame)[0]), b = box(frame);
      frame.classList.toggle("match", hit);
      if (!hit) continue;
      found += 1;
      if (b.s >= until) {
        covered += b.w;
        until = b.s + b.w;
      }
    }
    tell(text && `"${text}": ${found} frames, ${(100 * covered / +view.dataset.total).toFixed(2)} % of the whole`);
  }

  function show(measure) {
    for (const other of views) other.style.display = other.dataset.measure === measure ? "" : "none";
    for (const button of svg.querySelectorAll(".button.measure"))
      button.classList.toggle("pressed", button.classList.contains(measure));
    view = views.find((other) => other.dataset.measure === measure);
    search(input.value);
  }

  function press(element, action) {
    element.addEventListener("click", action);
    element.addEventListener("keydown", (event) => { if (event.key === "Enter") action(); });
  }

  const input = document.createElementNS("http://www.w3.org/1999/xhtml", "input");
  input.setAttribute("placeholder", "search: text or pattern");
  input.addEventListener("input", () => search(input.value));
  svg.querySelector(".search").append(input);
  svg.querySelector(".controls").style.display = "";
  press(svg.querySelector(".button.reset"), () => {
    input.value = "";
    search("");
    zoom(frames(view)[0]);
  });
  for (const button of svg.querySelectorAll(".button.measure"))
    press(button, () => show(button.classList.contains("guest") ? "guest" : "monitor"));
  for (const frame of views.flatMap(frames)) {
    frame.setAttribute("tabindex", "0");
    press(frame, () => zoom(frame));
    const text = () => tell(lines(frame).join("   "));
    frame.addEventListener("mouseenter", text);
    frame.addEventListener("focus", text);
  }
  show(view.dataset.measure);
})();
