// Treemaps: a click on an area shows it alone, the next click shows all again.
(function () {
  "use strict";
  for (const map of document.querySelectorAll("svg[data-zoom]")) {
    const whole = map.getAttribute("viewBox");
    const only = (chosen) => {
      for (const area of map.querySelectorAll("[data-box]")) area.style.display = chosen && area !== chosen ? "none" : "";
    };
    map.addEventListener("click", (event) => {
      if (map.hasAttribute("data-zoomed")) {
        map.removeAttribute("data-zoomed");
        map.setAttribute("viewBox", whole);
        only(null);
        return;
      }
      const area = event.target.closest("[data-box]");
      if (!area) return;
      map.setAttribute("data-zoomed", "");
      map.setAttribute("viewBox", area.dataset.box);
      only(area);
    });
  }
})();
