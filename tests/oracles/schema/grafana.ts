// Grafana's types for what a panel's JSON holds. Enums are read as the strings that JSON has for them, and every object
// is written out where it is typed, so that a key which Grafana does not know is an error.
import type { FieldConfig as Field } from "@grafana/schema";
import type { Options as BarGauge } from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type { FieldConfig as HeatmapField, Options as Heatmap } from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type { Options as Logs } from "@grafana/schema/dist/esm/raw/composable/logs/panelcfg/x/LogsPanelCfg_types.gen";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { FieldConfig as StateField, Options as StateTimeline } from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type { FieldConfig as TableField, Options as Table } from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type { Options as Text } from "@grafana/schema/dist/esm/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen";
import type { FieldConfig as TimeSeriesField, Options as TimeSeries } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

type Json<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer Item)[] ? Json<Item>[] : T extends object ? { [Key in keyof T]: Json<T[Key]> } : T;

type Known = { [Key in keyof Field as string extends Key ? never : Key]: Field[Key] };
type Shown = { text: string; color: string; index: number };
type Defaults<Custom> = Omit<Json<Known>, "custom" | "mappings" | "links" | "thresholds" | "color"> & {
  color?: { mode: string; fixedColor?: string };
  custom?: Partial<Json<Custom>>;
  links?: { title: string; url: string; targetBlank: boolean }[];
  mappings?: (
    | { type: "value"; options: Record<string, Shown> }
    | { type: "special"; options: { match: "null+nan"; result: Shown } }
    | { type: "range"; options: { from: number | null; to: number | null; result: Shown } }
  )[];
  thresholds?: { mode: "absolute" | "percentage"; steps: { color: string; value: number | null }[] };
};
type Override = {
  matcher: { id: "byName" | "byRegexp"; options: string };
  properties: { id: string; value: unknown }[];
};
type Panel<Options, Custom> = {
  options: Json<Options>;
  fieldConfig: { defaults: Defaults<Custom>; overrides: Override[] };
};

// The list of alerts has no types in Grafana's packages: these are what dashboards of Grafana 10 to 13 hold of it.
type AlertList = {
  alertInstanceLabelFilter: string;
  alertName: string;
  dashboardAlerts: boolean;
  datasource: string;
  groupBy: string[];
  groupMode: "default" | "custom";
  maxItems: number;
  sortOrder: 1 | 2 | 3 | 4 | 5;
  stateFilter: Record<"error" | "firing" | "noData" | "normal" | "pending", boolean>;
  viewMode: "list" | "stat";
};

export type Panels = {
  timeseries: Panel<TimeSeries, TimeSeriesField>;
  stat: Panel<Stat, {}>;
  table: Panel<Omit<Table, "frameIndex"> & { frameIndex?: number }, TableField>;
  "state-timeline": Panel<StateTimeline, StateField>;
  heatmap: Panel<Heatmap, HeatmapField>;
  bargauge: Panel<BarGauge, {}>;
  logs: Panel<Logs, {}>;
  text: Panel<Text, {}>;
  alertlist: Panel<AlertList, {}>;
};
