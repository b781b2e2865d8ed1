// What stands in place of variables and macros in links, by Grafana's own scenes.
"use strict";

// `variables` are {name: {values, all, all_value}}; returns what applyFieldOverrides takes as replaceVariables.
function chosen({ need, data: D }, variables) {
  const S = need("@grafana/scenes");
  D.locationUtil.initialize({
    config: { appSubUrl: "" },
    getVariablesUrlParams: () => ({}),
    getTimeRangeForUrl: () => ({ from: "now-1h", to: "now" }),
  });
  const sources = { logs: "loki", traces: "tempo", datasource: "prometheus" };
  const scene = new S.EmbeddedScene({
    $timeRange: new S.SceneTimeRange({ from: "2025-10-14T00:00:00.000Z", to: "2025-10-14T01:00:00.000Z", timeZone: "utc" }),
    $variables: new S.SceneVariableSet({
      variables: [
        ...Object.entries(sources).map(
          ([name, kind]) => new S.DataSourceVariable({ name, pluginId: kind, value: `${kind}-uid`, text: kind }),
        ),
        ...Object.entries(variables).map(([name, { values, all, all_value }]) => {
          const value = all ? ["$__all"] : values;
          return new S.CustomVariable({
            name,
            query: values.join(","),
            isMulti: true,
            includeAll: true,
            ...(all_value ? { allValue: all_value } : {}),
            value,
            text: all ? ["All"] : values,
          });
        }),
      ],
    }),
    body: new S.SceneFlexLayout({ children: [] }),
  });
  return (text, scoped, format) => S.sceneGraph.interpolate(scene, text, scoped, format);
}

module.exports = { chosen };
