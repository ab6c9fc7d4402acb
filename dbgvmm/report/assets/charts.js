// Pictures over time: a switch between views, a line at the mouse, and numbers for the moment that it is at.
(function () {
  "use strict";

  function at(edges, x) {
    let low = 0, high = edges.length - 2;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (edges[middle] <= x) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  const amount = (value, share) => (share ? (100 * value).toFixed(value < 0.0995 ? 1 : 0) + "%" : value.toLocaleString("en", { maximumSignificantDigits: 3 }));

  // moment(interval) is called while the mouse is over an interval of the picture, leave() when it is not any more.
  function follow(svg, edges, moment, leave) {
    const cursor = svg.querySelector(".cursor");
    const first = edges[0], last = edges[edges.length - 1];
    svg.addEventListener("mousemove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) * svg.viewBox.baseVal.width) / box.width;
      if (x < first || x > last) return stop();
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.style.display = "";
      moment(at(edges, x));
    });
    function stop() {
      cursor.style.display = "none";
      leave();
    }
    svg.addEventListener("mouseleave", stop);
  }

  const read = (element) => JSON.parse(element.querySelector('script[type="application/json"]').textContent);

  for (const chart of document.querySelectorAll('[data-chart="ledger"]')) {
    const views = [...chart.querySelectorAll(".view")], buttons = [...chart.querySelectorAll(".buttons button")];
    const readout = chart.querySelector(".readout");
    const show = (name) => {
      for (const view of views) view.style.display = view.dataset.view === name ? "" : "none";
      for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.view === name);
    };
    for (const button of buttons) button.addEventListener("click", () => show(button.dataset.view));
    chart.querySelector(".buttons").style.display = "flex";
    show(views[0].dataset.view);
    for (const view of views) {
      const data = read(view), svg = view.querySelector("svg"), entries = [...view.querySelectorAll(".legend li")];
      follow(svg, data.edges, (interval) => {
        const values = data.layers.map((layer) => layer[interval]);
        const sum = values.reduce((total, value) => total + value, 0);
        readout.textContent = data.when[interval] + (data.share ? "" : `: ${amount(sum, false)} ${data.unit}`);
        entries.forEach((entry, layer) => (entry.querySelector("span").textContent = values[layer] ? " " + amount(values[layer], data.share) : ""));
      }, () => {
        readout.textContent = " ";
        for (const entry of entries) entry.querySelector("span").textContent = "";
      });
      for (const entry of entries) {
        const dim = (on) => {
          for (const layer of svg.querySelectorAll(".layer"))
            layer.classList.toggle("dim", on && layer.dataset.layer !== entry.dataset.layer);
        };
        entry.addEventListener("mouseenter", () => dim(true));
        entry.addEventListener("mouseleave", () => dim(false));
      }
    }
  }

  for (const chart of document.querySelectorAll('[data-chart="timeline"]')) {
    const data = read(chart), readout = chart.querySelector(".readout");
    follow(chart.querySelector("svg"), data.edges, (interval) => {
      const told = data.lanes.filter((lane) => lane.values[interval]).map((lane) => `${lane.name} ${lane.values[interval]}`);
      readout.textContent = [data.when[interval], ...told].join(" · ");
    }, () => (readout.textContent = " "));
  }
})();
