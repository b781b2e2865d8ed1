"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  let marks = JSON.parse(document.getElementById("marks").textContent);
  const root = document.documentElement;
  const traces = document.querySelector("main").dataset.traces;  // where points of plots lead to, in the preview
  const dark = () => root.dataset.theme === "dark";
  // Plotly interprets some HTML in its texts; texts from series must stay plain.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const times = (f) => Array.from({ length: f.n }, (_, i) => f.t0 + i * f.dt);
  const faint = (color, share) => color + Math.round(share * 255).toString(16).padStart(2, "0");
  const longest = (names) => names.reduce((most, name) => Math.max(most, name.length), 0);

  function lines(f) {
    const x = times(f);
    const unit = plain(f.unit.suffix);
    const from = f.ticks[0][0], to = f.ticks[f.ticks.length - 1][0];
    const data = f.traces.map((t) => {
      const common = { x, y: t.y, name: plain(t.name), hovertemplate: `%{y:${f.unit.format}}${unit}<extra>${plain(t.name)}</extra>` };
      if (f.type === "bars") return { ...common, type: "bar", marker: { color: t.color } };
      // A value between two gaps would be invisible as a line.
      const alone = t.y.map((v, i) => (v !== null && (t.y[i - 1] ?? null) === null && (t.y[i + 1] ?? null) === null ? 5 : 0));
      const trace = {
        ...common, type: "scatter", mode: alone.some(Boolean) ? "lines+markers" : "lines", connectgaps: false,
        line: { color: t.color, width: 1.3, dash: t.dash ? "dash" : "solid" }, marker: { color: t.color, size: alone },
      };
      if (f.stacked) return { ...trace, stackgroup: "a", fillcolor: faint(t.color, 0.35) };
      // Plotly fills across gaps, where there are no values.
      const figures = t.y.map((v) => v !== null);
      const whole = !figures.slice(figures.indexOf(true), figures.lastIndexOf(true)).includes(false);
      return t.fill && whole ? { ...trace, fill: "tozeroy", fillcolor: faint(t.color, t.fill) } : trace;
    });
    const layout = {
      yaxis: { range: [from, to + (to - from) * 0.02], tickvals: f.ticks.map((t) => t[0]), ticktext: f.ticks.map((t) => plain(t[1])), fixedrange: true },
      xaxis: { range: [f.t0, f.t0 + (f.n - 1) * f.dt] },
      barmode: "stack", bargap: 0.1, hovermode: "x unified",
      shapes: f.lines.map((l) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: l.y, y1: l.y, line: { color: l.color, width: 1, dash: "dash" } })),
    };
    return { data, layout };
  }

  function heatmap(f) {
    const z = f.z.map((row) => row.map((v) => (v === null ? null : Math.sqrt(v))));
    return {
      data: [{
        type: "heatmap", x: times(f), y: f.names.map((_, i) => i), z, customdata: f.z, showscale: false, xgap: 1, ygap: 1, hoverongaps: false,
        colorscale: dark() ? [[0, "#1b2b45"], [1, "#8ab8ff"]] : [[0, "#dce8f8"], [1, "#08306b"]],
        text: f.z.map((row, i) => row.map(() => plain(f.names[i]))),
        hovertemplate: `up to %{text}: %{customdata:${f.unit.format}}${plain(f.unit.suffix)}<extra></extra>`,
      }],
      layout: { yaxis: { tickvals: f.names.map((_, i) => i), ticktext: f.names.map(plain), fixedrange: true, showgrid: false }, xaxis: { range: [f.t0, f.t0 + (f.n - 1) * f.dt] }, hovermode: "closest" },
    };
  }

  function states(f) {
    const byState = new Map();
    for (const [row, start, end, text, color] of f.runs) {
      if (!byState.has(text)) byState.set(text, { type: "bar", orientation: "h", x: [], y: [], base: [], name: plain(text), marker: { color: faint(color, 0.8) }, text: [], customdata: [], width: 0.8, textposition: "inside", insidetextanchor: "start", textangle: 0, constraintext: "inside", hovertemplate: "%{customdata}<extra></extra>" });
      const t = byState.get(text);
      t.x.push(end - start); t.y.push(row); t.base.push(start);
      t.text.push((end - start) / (f.to - f.from) > text.length * 0.012 ? plain(text) : "");
      t.customdata.push(`${plain(f.rows[row])}: ${plain(text)}, ${new Date(start).toISOString().slice(11, 19)} to ${new Date(end).toISOString().slice(11, 19)}`);
    }
    return {
      data: [...byState.values()],
      layout: {
        barmode: "overlay", uniformtext: { minsize: 10, mode: "hide" }, height: 46 + 26 * f.rows.length, hovermode: "closest",
        yaxis: { range: [f.rows.length - 0.4, -0.6], tickvals: f.rows.map((_, i) => i), ticktext: f.rows.map(plain), fixedrange: true, showgrid: false },
        xaxis: { range: [f.from, f.to] },
      },
    };
  }

  const makers = { lines, bars: lines, heatmap, states };

  function draw(element) {
    const figure = plots[element.dataset.plot];
    const { data, layout } = makers[figure.type](figure);
    const text = dark() ? "#ccccdc" : "#24292e", line = dark() ? "#2c3035" : "#e4e7eb";
    const names = layout.yaxis.ticktext ?? [];
    const room = Math.min(18 + 6.4 * longest(names), element.clientWidth * 0.45);
    const annotated = figure.type === "states" ? [] : marks[element.dataset.board] ?? [];
    layout.shapes = (layout.shapes ?? []).concat(annotated.map((m) => m.end > m.start
      ? { type: "rect", yref: "paper", y0: 0, y1: 1, x0: m.start, x1: m.end, fillcolor: faint(m.color, 0.1), line: { width: 0 }, layer: "below" }
      : { type: "line", yref: "paper", y0: 0, y1: 1, x0: m.start, x1: m.start, line: { color: m.color, width: 1, dash: "dot" } }));
    Object.assign(layout, {
      showlegend: false, margin: { l: room, r: 10, t: 6, b: 24 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: text, size: 11, family: "inherit" }, hoverlabel: { bgcolor: dark() ? "#22252b" : "#fff", font: { color: text, size: 11 }, namelength: -1 }, autosize: true,
    });
    layout.xaxis = { ...layout.xaxis, type: "date", ticks: "outside", ticklen: 5, tickcolor: "rgba(0,0,0,0)", gridcolor: line, zerolinecolor: line, nticks: 6, tickformatstops: [{ dtickrange: [null, 59999], value: "%H:%M:%S" }, { dtickrange: [60000, 86400000], value: "%H:%M" }, { dtickrange: [86400000, null], value: "%b %d" }] };
    layout.yaxis = { gridcolor: line, zerolinecolor: line, ...layout.yaxis };
    const first = !element.dataset.drawn;
    element.dataset.drawn = "yes";
    const drawn = Plotly.react(element, data, layout, { displayModeBar: false, responsive: true });
    if (first && traces && figure.dt) {
      element.classList.add("leads");
      // A click on a point leads to the traces of its interval, of the page's deployments.
      element.on("plotly_click", (event) => {
        const at = new Date(`${event.points[0].x}`.replace(" ", "T").replace(/Z?$/, "Z")).getTime();
        const chosen = new URLSearchParams(new FormData(document.getElementById("choose")));
        for (const name of [...chosen.keys()]) if (!name.startsWith("var-") || !chosen.get(name)) chosen.delete(name);
        chosen.set("from", Math.floor((at - figure.dt) / 1000));
        chosen.set("to", Math.ceil((at + figure.dt) / 1000));
        location.href = `${traces}?${chosen}`;
      });
    }
    return drawn;
  }

  const waiting = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) now(entry.target);
  }, { rootMargin: "300px" });
  const later = (element) => { waiting.add(element); watcher.observe(element); };
  const now = (element) => { waiting.delete(element); watcher.unobserve(element); return draw(element); };
  const row = (element) => element.closest("details.row");
  document.querySelectorAll(".plot").forEach(later);

  // The preview's rows are loaded when they come into view, one after the other, and again after a refresh. `data-from`
  // of a row is the URL to load it from, until it is loaded.
  const near = new Set();
  let coming = null;
  const come = () => coming ??= (async () => {
    for (let one; (one = [...near].find((grid) => row(grid).dataset.from)); ) await fill(row(one));
  })().finally(() => { coming = null; });
  async function fill(one) {
    const grid = one.querySelector(".grid");
    const from = one.dataset.from;
    let answer;
    try {
      const response = await fetch(from);
      answer = response.ok ? await response.json() : { problem: await response.text() };
    } catch (error) {
      answer = { problem: `the preview is unreachable (${error.message})` };
    }
    if (one.dataset.from === from) delete one.dataset.from;  // else a refresh came between, and it is loaded again
    grid.classList.remove("blank");
    grid.querySelectorAll(".plot").forEach((plot) => { waiting.delete(plot); watcher.unobserve(plot); Plotly.purge(plot); });
    if (answer.problem) {
      const line = Object.assign(document.createElement("p"), { className: "problem", textContent: answer.problem });
      grid.replaceChildren(line);
      return;
    }
    grid.innerHTML = answer.html;
    Object.assign(plots, answer.plots);
    grid.querySelectorAll(".plot").forEach(later);
    outline();
  }
  const sight = new IntersectionObserver((entries) => {
    for (const entry of entries) near[entry.isIntersecting ? "add" : "delete"](entry.target);
    come();
  }, { rootMargin: "300px" });
  document.querySelectorAll(".row[data-from] .grid").forEach((grid) => sight.observe(grid));

  // The panel that the address names, `#<dashboard>/<number>`, is outlined; null where none is, or none yet.
  function outline() {
    const [uid, number] = location.hash.slice(1).split("/");
    document.querySelectorAll(".panel.asked").forEach((one) => one.classList.remove("asked"));
    const panel = number ? document.querySelector(`#${CSS.escape(uid)} .panel[data-number="${CSS.escape(number)}"]`) : null;
    panel?.classList.add("asked");
    return panel;
  }
  // A link to a panel opens its row and loads it, with those that are in sight, and then brings the panel into sight.
  async function go() {
    const [uid, number] = location.hash.slice(1).split("/");
    outline();
    if (!number) return;
    const holds = (one) => one.closest(".board").id === uid && one.dataset.numbers.split(" ").includes(number);
    const place = [...document.querySelectorAll("details.row")].find(holds);
    if (!place) return;
    place.open = true;
    if (place.dataset.from) {
      near.add(place.querySelector(".grid"));
      await come();
    }
    outline()?.scrollIntoView({ block: "center" });
  }
  addEventListener("hashchange", go);

  // Load every row that is not loaded yet.
  window.fillAll = async () => {
    for (const one of document.querySelectorAll("details.row[data-from]")) if (one.dataset.from) await fill(one);
  };

  // Draw everything: for printing, including closed rows, and for pictures. It is drawn when this returns, because a
  // browser that is about to print awaits no promise; the promise covers what Plotly does after drawing.
  window.drawAll = (open = true) => {
    if (open) document.querySelectorAll("details.row").forEach((one) => { one.open = true; });
    return Promise.all([...waiting].filter((one) => row(one).open).map(now)).then(() => {});
  };

  let before = null;  // what was shown before print: the theme and the closed rows
  window.addEventListener("beforeprint", () => {
    before ??= { theme: root.dataset.theme, closed: document.querySelectorAll("details.row:not([open])") };
    root.classList.add("printing");
    paint("light");
    window.drawAll();
  });
  window.addEventListener("afterprint", () => {
    if (!before) return;
    root.classList.remove("printing");
    before.closed.forEach((one) => { one.open = false; });
    paint(before.theme);
    before = null;
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".legend:not(.states) button");
    if (!button) return;
    const plot = button.closest(".panel").querySelector(".plot");
    const off = button.classList.toggle("off");
    Plotly.restyle(plot, { visible: !off }, [Number(button.dataset.trace)]);
  });

  function paint(theme) {
    root.dataset.theme = theme;
    // A closed row has no width to draw to.
    document.querySelectorAll(".plot[data-drawn]").forEach((element) => (row(element).open ? draw : later)(element));
  }
  // The choice survives the preview's refresh. A page opened from a file may have no storage.
  const kept = (theme) => { try { if (theme) sessionStorage.setItem("theme", theme); return sessionStorage.getItem("theme"); } catch { return null; } };
  const asked = new URLSearchParams(location.search).get("theme");
  paint(kept() ?? asked ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () => { paint(dark() ? "light" : "dark"); kept(root.dataset.theme); });

  // A new page is merged into this one without scrolling: first the part above the rows, then each row.
  async function renew() {
    const response = await fetch(location.href);
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    const page = new DOMParser().parseFromString(text, "text/html");
    const rows = document.querySelectorAll("details.row"), renewed = page.querySelectorAll("details.row");
    if (rows.length !== renewed.length) return location.reload();  // a repeated row was added or removed
    document.querySelectorAll(".fresh").forEach((old) => {
      const part = page.getElementById(old.id);
      const open = new Set([...old.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
      part.querySelectorAll("summary").forEach((one) => { one.parentElement.open = open.has(one.textContent); });
      old.replaceWith(part);
    });
    document.querySelectorAll("#choose input[name]").forEach((one) => { one.placeholder = page.querySelector(`#choose input[name=${one.name}]`).placeholder; });
    marks = JSON.parse(page.getElementById("marks").textContent);
    rows.forEach((one, i) => { one.dataset.from = renewed[i].dataset.from; });
    await come();
  }
  go();
  const refresh = document.getElementById("refresh");
  const trouble = document.getElementById("trouble");
  // Only while the page is visible, and never before the last refresh is done.
  const soon = () => setTimeout(async () => {
    if (refresh.checked && document.visibilityState === "visible") {
      await renew().then(() => "", (error) => `refresh failed: ${error.message}`).then((line) => { trouble.textContent = line; });
    }
    soon();
  }, 1000 * Number(refresh.dataset.seconds));
  if (refresh) soon();
})();
