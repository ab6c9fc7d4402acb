// Treemaps: choose an address space; a click on an area lays it out anew over the whole picture, a click on
// "whole address space", on the picture again or Escape goes back.
(function () {
  "use strict";
  const CHARACTER = 6.7;

  // Bruls, Huizing, van Wijk: Squarified Treemaps (2000), as the page's other layouts were made.
  function squarified(weights, box) {
    const order = weights.map((_, at) => at).sort((a, b) => weights[b] - weights[a] || a - b);
    const places = [];
    let left = weights.reduce((sum, weight) => sum + weight, 0);
    const worst = (row, side, scale) => {
      const total = row.reduce((sum, at) => sum + weights[at], 0) * scale;
      return Math.max(...row.map((at) => {
        const part = weights[at] * scale;
        return Math.max((side * side * part) / (total * total), (total * total) / (side * side * part));
      }));
    };
    for (let at = 0; at < order.length; ) {
      const side = Math.min(box.w, box.h), scale = (box.w * box.h) / left;
      const row = [order[at++]];
      while (at < order.length && worst([...row, order[at]], side, scale) <= worst(row, side, scale)) row.push(order[at++]);
      const total = row.reduce((sum, each) => sum + weights[each], 0);
      const wide = box.w >= box.h, thick = (total * scale) / side;
      let along = wide ? box.y : box.x;
      for (const each of row) {
        const long = (side * weights[each]) / total;
        places[each] = wide ? { x: box.x, y: along, w: thick, h: long } : { x: along, y: box.y, w: long, h: thick };
        along += long;
      }
      box = wide ? { x: box.x + thick, y: box.y, w: box.w - thick, h: box.h } : { x: box.x, y: box.y + thick, w: box.w, h: box.h - thick };
      left -= total;
    }
    return places;
  }

  function fitted(text, width) {
    const room = Math.floor((width - 6) / CHARACTER);
    return text.length <= room ? text : room >= 3 ? text.slice(0, room - 1) + "…" : "";
  }

  function place(range, box) {
    for (const rect of range.querySelectorAll("rect")) {
      rect.setAttribute("x", box.x);
      rect.setAttribute("y", box.y);
      rect.setAttribute("width", box.w);
      rect.setAttribute("height", box.h);
    }
    const text = range.querySelector("text"), lines = range.querySelector("title").textContent.split("\n");
    text.textContent = "";
    lines.forEach((line, at) => {
      if (box.h < 18 + 15 * at) return;
      const part = document.createElementNS("http://www.w3.org/2000/svg", "tspan");
      part.setAttribute("x", box.x + 4);
      part.setAttribute("y", box.y + 13 + 15 * at);
      part.textContent = fitted(line, box.w);
      text.append(part);
    });
  }

  for (const tree of document.querySelectorAll(".treemap")) {
    const maps = [...tree.querySelectorAll("svg.map")];
    const bar = tree.querySelector(".bar"), back = bar.querySelector(".whole"), crumb = bar.querySelector(".crumbs span");
    const select = bar.querySelector("select");
    let enlarged = null, before = "";

    function restore() {
      if (!enlarged) return;
      const map = enlarged.closest("svg");
      enlarged.outerHTML = before;
      for (const group of map.querySelectorAll(".group")) group.style.display = "";
      map.removeAttribute("data-zoomed");
      enlarged = null;
      back.disabled = true;
      crumb.textContent = "";
    }

    function enlarge(map, group) {
      restore();
      before = group.outerHTML;
      enlarged = group;
      map.setAttribute("data-zoomed", "");
      for (const other of map.querySelectorAll(".group")) other.style.display = other === group ? "" : "none";
      const view = map.viewBox.baseVal, outer = group.querySelector(".area"), label = group.querySelector("text");
      outer.setAttribute("x", 2);
      outer.setAttribute("y", 2);
      outer.setAttribute("width", view.width - 4);
      outer.setAttribute("height", view.height - 4);
      label.setAttribute("x", 7);
      label.setAttribute("y", 14);
      label.textContent = fitted(group.dataset.name, view.width - 4);
      const ranges = [...group.querySelectorAll(".range")];
      const boxes = squarified(ranges.map((range) => +range.dataset.weight), { x: 3, y: 19, w: view.width - 6, h: view.height - 22 });
      ranges.forEach((range, at) => place(range, boxes[at]));
      back.disabled = false;
      crumb.textContent = " › " + group.dataset.name;
    }

    for (const map of maps) {
      map.addEventListener("click", (event) => {
        if (map.hasAttribute("data-zoomed")) return restore();
        const group = event.target.closest(".group");
        if (group) enlarge(map, group);
      });
    }
    back.addEventListener("click", restore);
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") restore(); });
    if (select) {
      const show = () => {
        restore();
        for (const map of maps) map.style.display = map.dataset.space === select.value ? "" : "none";
      };
      select.addEventListener("change", show);
      show();
    }
    bar.style.display = "flex";
  }
})();
