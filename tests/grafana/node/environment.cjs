// A page without a browser, in which Grafana's packages load, and the packages themselves.
"use strict";
const Module = require("module");
const path = require("path");

// Packages write notices; standard output is for the readings.
for (const name of ["log", "info", "debug", "warn"]) console[name] = console.error;

// Grafana's packages import style sheets, which Node cannot read and nothing here needs.
Module._extensions[".css"] = () => {};
// What older versions import by paths that Node does not resolve: the loader of
// plugins, the types of panels for the builders of scenes. None of it is used here.
const unneeded = /^systemjs|^@grafana\/schema\/dist\/esm\/raw\//;
const loadModule = Module._load;
Module._load = (name, ...more) => {
  try {
    return loadModule(name, ...more);
  } catch (error) {
    if (unneeded.test(name) && error.code === "MODULE_NOT_FOUND") return {};
    throw error;
  }
};

function load(folder) {
  const need = Module.createRequire(path.resolve(folder) + "/");
  const { JSDOM } = need("jsdom");
  const page = new JSDOM("<html><body></body></html>", { url: "http://localhost/" });
  const window = page.window;
  const still = class {
    observe() {}
    unobserve() {}
    disconnect() {}
  };
  window.matchMedia = () => ({ matches: false, addListener() {}, removeListener() {}, addEventListener() {}, removeEventListener() {} });
  Object.assign(global, { window, ResizeObserver: still, IntersectionObserver: still, Path2D: class {}, devicePixelRatio: 1 });
  for (const name of Object.getOwnPropertyNames(window)) {
    if (!(name in global) && !name.startsWith("_")) global[name] = window[name];
  }
  for (const name of ["Event", "EventTarget", "CustomEvent"]) global[name] = window[name];
  global.matchMedia = window.matchMedia;

  const data = need("@grafana/data");
  const ui = need("@grafana/ui");
  const version = need("@grafana/data/package.json").version;
  const major = parseInt(version, 10);
  const known = [...new Map(Object.values(data.standardTransformers).map((one) => [one.id, one])).values()];
  data.standardTransformersRegistry.setInit(() =>
    known.map((one) => ({
      id: one.id,
      name: one.name,
      // From version 13 on Grafana loads a transformation when it is used.
      transformation: major >= 13 ? () => Promise.resolve(one) : one,
      editor: () => null,
      imageDark: "",
      imageLight: "",
      help: "",
    })),
  );
  return { need, data, ui, version, major, theme: data.createTheme({ colors: { mode: "light" } }), rxjs: need("rxjs") };
}

module.exports = { load };
