// What a person reads of panels: `node read.cjs FOLDER` takes cases as JSON from stdin and writes readings to stdout.
//
// FOLDER holds Grafana's packages. A case is {panel, answers, step_ms}, and {variables} where its links are asked for
// instead: the URLs that the links of each figure lead to while these values are chosen.
"use strict";
const { load } = require("./environment.cjs");
const { frames } = require("./frames.cjs");
const { chosen } = require("./variables.cjs");

const grafana = load(process.argv[2]);
const { data: D, ui: U, theme, rxjs, major } = grafana;

const NAMES = ["red", "orange", "yellow", "green", "blue", "purple", "dark-blue", "light-blue", "text"];
const named = new Map(NAMES.map((name) => [theme.visualization.getColorByName(name).toLowerCase(), name]));

// A colour by its name: the shades differ between themes and versions.
const toneOf = (color) => (color ? (named.get(color.toLowerCase()) ?? color.toLowerCase()) : "");

const text = (shown) => (shown.prefix ?? "") + shown.text + (shown.suffix ?? "");

// The options of panels are registered by Grafana's panels themselves; overrides need an entry for each.
function registry(panel) {
  const own = ["unit", "min", "max", "decimals", "displayName", "noValue", "thresholds", "mappings", "color", "links"];
  const custom = new Set(Object.keys(panel.fieldConfig.defaults?.custom ?? {}));
  for (const one of panel.fieldConfig.overrides ?? []) {
    for (const property of one.properties) {
      if (property.id.startsWith("custom.")) custom.add(property.id.slice("custom.".length));
    }
  }
  const entry = (id, path, isCustom) => ({
    id,
    path,
    name: id,
    isCustom,
    process: (value) => value,
    shouldApply: () => true,
    override: () => null,
    editor: () => null,
  });
  return new D.Registry(() => [
    ...own.map((id) => entry(id, id, false)),
    ...[...custom].map((id) => entry(`custom.${id}`, id, true)),
  ]);
}

async function fields(panel, given, replaceVariables = (value) => value) {
  const transformed = await rxjs.firstValueFrom(
    D.transformDataFrame(panel.transformations ?? [], given, { interpolate: (value) => value }),
  );
  return D.applyFieldOverrides({
    data: transformed,
    fieldConfig: structuredClone(panel.fieldConfig),
    theme,
    timeZone: "utc",
    fieldConfigRegistry: registry(panel),
    replaceVariables,
  });
}

const numbers = (shown) =>
  shown.flatMap((frame) => frame.fields.filter((field) => field.type === "number").map((field) => ({ field, frame })));

function figures(panel, shown) {
  const values = D.getFieldDisplayValues({
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (value) => value,
    theme,
    data: shown,
    sparkline: panel.options.graphMode === "area",
    timeZone: "utc",
  });
  return values.map((value) => ({
    name: values.length > 1 || panel.type === "bargauge" ? (value.display.title ?? "") : "",
    text: text(value.display),
    color: toneOf(value.display.color),
    ...(panel.type === "stat" ? { low: value.field.min ?? null, high: value.field.max ?? null } : {}),
  }));
}

function graph(panel, shown) {
  const lines = numbers(shown)
    .filter(({ field }) => field.values.some((value) => value !== null && !Number.isNaN(value)))
    .map(({ field, frame }) => {
      const reduced = D.reduceField({ field, reducers: ["lastNotNull", "max"] });
      const mode = D.getFieldColorModeForField(field);
      const color = mode.getCalculator(field, theme)(0, 0);
      return {
        name: D.getFieldDisplayName(field, frame, shown),
        // Palettes have other lengths in other versions: which of their colours a series gets is not compared.
        color: field.config.color.mode.startsWith("palette") ? field.config.color.mode : toneOf(color),
        last: text(field.display(reduced.lastNotNull)),
        max: text(field.display(reduced.max)),
        highest: reduced.max,
      };
    });
  const { sortBy, sortDesc } = panel.options.legend;
  if (sortBy === "Max") lines.sort((a, b) => (sortDesc ? b.highest - a.highest : a.highest - b.highest));
  const { min, max } = panel.fieldConfig.defaults;
  return { lines: lines.map(({ highest, ...line }) => line), low: min ?? null, high: max ?? null };
}

// Version 13 compares numbers as such, older ones take NaN for the smallest; both compare texts without case.
function compare(a, b) {
  if (typeof a === "number" || typeof b === "number" || a == null || b == null) {
    if (a === b) return 0;
    if (a == null) return -1;
    if (b == null) return 1;
    if (major >= 13) return a - b;
    return (Number.isNaN(a) ? -Infinity : a) - (Number.isNaN(b) ? -Infinity : b);
  }
  return String(a).localeCompare(String(b), "en", { sensitivity: "base", numeric: major >= 13 });
}

function table(panel, shown) {
  const frame = shown[0] ?? { fields: [], length: 0 };
  const columns = frame.fields.map((field) => D.getFieldDisplayName(field, frame, shown));
  const rows = Array.from({ length: frame.length }, (_, row) => row);
  for (const { displayName, desc } of [...(panel.options.sortBy ?? [])].reverse()) {
    const field = frame.fields[columns.indexOf(displayName)];
    if (field) rows.sort((a, b) => (desc ? -1 : 1) * compare(field.values[a], field.values[b]));
  }
  const cells = rows.map((row) =>
    frame.fields.map((field) => {
      const display = field.display(field.values[row]);
      const colored = String(field.config.custom?.cellOptions?.type ?? "").includes("color");
      return { text: text(display), color: colored ? toneOf(display.color) : "" };
    }),
  );
  return { columns, rows: cells };
}

// Grafana's merging of bands, in words of our own: in the colour mode "thresholds" with merged values a band is the step
// of the thresholds that its figures fall into, and the mappings count for nothing; else it is what its value displays.
function timeline(panel, shown) {
  const byStep = panel.options.mergeValues && panel.fieldConfig.defaults.color?.mode === "thresholds";
  const step = (value) => {
    const { steps } = panel.fieldConfig.defaults.thresholds;
    const reached = steps.filter((one) => one.value === null || value >= one.value).length - 1;
    const from = steps[reached].value;
    const to = steps[reached + 1]?.value;
    const label = `${from === null ? "-∞" : from}${to === undefined ? "+" : ` - ${to}`}`;
    return { text: label, color: toneOf(theme.visualization.getColorByName(steps[reached].color)) };
  };
  return numbers(shown)
    .filter(({ field }) => field.values.some((value) => value !== null && !Number.isNaN(value)))
    .map(({ field, frame }) => {
      const bands = [];
      field.values.forEach((value, index) => {
        if (value === null || value === undefined || Number.isNaN(value)) return;
        const at = frame.fields[0].values[index];
        const display = field.display(value);
        const band = byStep ? step(value) : { text: text(display), color: toneOf(display.color) };
        const before = bands[bands.length - 1];
        const apart = frame.fields[0].config.interval;
        if (before && before.text === band.text && before.value === value && at - before.end <= apart) before.end = at;
        else bands.push({ ...band, value, end: at });
      });
      return { name: D.getFieldDisplayName(field, frame, shown), bands: bands.map(({ text, color }) => [text, color]) };
    });
}

const heatmap = (shown) => numbers(shown).map(({ field, frame }) => D.getFieldDisplayName(field, frame, shown));

async function links({ panel, answers, step_ms, variables }) {
  const shown = await fields(panel, frames(panel, answers, step_ms), chosen(grafana, variables));
  return shown.flatMap((frame) =>
    // A link of a graph is on its figures, not on the time.
    frame.fields.filter((field) => field.type !== "time").flatMap((field) =>
      (field.getLinks?.({ valueRowIndex: 0 }) ?? []).map((link) => ({ title: link.title, url: link.href })),
    ),
  );
}

async function reading({ panel, answers, step_ms }) {
  const moved = structuredClone(panel);
  if (["stat", "bargauge"].includes(panel.type)) Object.assign(moved, { options: U.sharedSingleStatMigrationHandler(moved) });
  const shown = await fields(moved, frames(moved, answers, step_ms));
  if (["stat", "bargauge"].includes(panel.type)) return figures(moved, shown);
  if (panel.type === "timeseries") return graph(moved, shown);
  if (panel.type === "table") return table(moved, shown);
  if (panel.type === "state-timeline") return timeline(moved, shown);
  if (panel.type === "heatmap") return heatmap(shown);
  throw new Error(`no rules for a panel of type ${panel.type}`);
}

(async () => {
  let given = "";
  for await (const piece of process.stdin) given += piece;
  const readings = [];
  for (const one of JSON.parse(given)) readings.push(await (one.variables ? links(one) : reading(one)));
  process.stdout.write(JSON.stringify({ version: grafana.version, readings }), () => process.exit(0));
})().catch((error) => {
  console.error(error.stack);
  process.exit(1);
});
