// Answers of Prometheus as the frames that its data source hands to a panel.
//
// The data source is not among the packages that may be used here, so these are its rules in words of our own, from what
// its answers look like: a frame for each series of a range, named by its legend; one frame for a table, with a column
// for each label in alphabetical order, and a letter behind "Value" where the panel has several queries; an answer
// without series is a frame without rows, so that its column stays.
"use strict";

const numeric = (text) => (text === "NaN" ? NaN : text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text));

function ofRange(answer, stepMs) {
  return answer.series.map((series) => ({
    refId: answer.ref,
    name: series.name,
    meta: { type: "timeseries-multi" },
    length: series.points.length,
    fields: [
      { name: "Time", type: "time", config: { interval: stepMs }, values: series.points.map((point) => point[0] * 1000) },
      {
        name: "Value",
        type: "number",
        labels: series.labels,
        config: { displayNameFromDS: series.name },
        values: series.points.map((point) => numeric(point[1])),
      },
    ],
  }));
}

function ofTable(answer, several) {
  const names = [...new Set(answer.series.flatMap((series) => Object.keys(series.labels)))].sort();
  const last = (series) => series.points[series.points.length - 1];
  return {
    refId: answer.ref,
    meta: {},
    length: answer.series.length,
    fields: [
      { name: "Time", type: "time", config: {}, values: answer.series.map((series) => last(series)[0] * 1000) },
      ...names.map((name) => ({
        name,
        type: "string",
        config: { filterable: true },
        values: answer.series.map((series) => series.labels[name] ?? ""),
      })),
      {
        name: several ? `Value #${answer.ref}` : "Value",
        type: "number",
        config: {},
        values: answer.series.map((series) => numeric(last(series)[1])),
      },
    ],
  };
}

function frames(panel, answers, stepMs) {
  const table = panel.targets.some((target) => target.format === "table");
  if (table) return answers.map((answer) => ofTable(answer, answers.length > 1));
  const found = answers.flatMap((answer) => ofRange(answer, stepMs));
  if (panel.type === "heatmap") {
    const bound = (frame) => numeric(frame.fields[1].labels.le ?? frame.name);
    found.sort((a, b) => bound(a) - bound(b));
  }
  return found;
}

module.exports = { frames };
