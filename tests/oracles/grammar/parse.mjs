// parse.mjs logql|traceql: reads a JSON list of expressions and prints, for each, the piece that Grafana's grammar does not
// understand or null.
import { readFileSync } from "node:fs";

const { parser } = await import(`@grafana/lezer-${process.argv[2]}`);

const complaints = JSON.parse(readFileSync(0, "utf8")).map((expression) => {
  let complaint = null;
  parser.parse(expression).iterate({
    enter: (node) => {
      if (node.type.isError) complaint ??= `at ${node.from}: ${expression.slice(node.from, node.from + 40)}`;
    },
  });
  return complaint;
});
console.log(JSON.stringify(complaints));
