'use strict';
// What cluster-rs changes against the cluster module of the same Node.
//
// run:  make bench-node [ARGS="rounds figure ..."], or: node bench/node/bench.cjs [rounds] [figure ...]   (9 rounds)
//
// Every round measures both contenders, one after the other, in an order that is reversed every other round. Ratios and
// differences are taken within a round; their median and range are printed. Everything stays on loopback. Environment:
// NODE is the Node to measure (this one), CLUSTER_MODULE what stands for cluster-rs: with node:cluster the stock module
// is compared with itself, and what comes out is the noise of the machine. CLUSTER_AGAINST is what stands for the stock
// module: with the node-addon of another checkout this build is compared with that one, by the rule of bench/README.md
// instead of the goals, in one look. Ends with 1 when something was not measured, or is worse than in the other build.

const { spawnSync } = require('node:child_process');
const os = require('node:os');
const path = require('node:path');
const { buildLoad } = require('./contender.cjs');
const figures = require('./figures.cjs');

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// A quarter of the values lies above it, or in between two as far as that is.
function upperQuartile(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const place = 0.75 * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return low + (high - low) * (place % 1);
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

function range(values, digits) {
  return `[${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)}]`;
}

// Those of bench/src/verdict.rs.
const BOUND = 1.03;
const LEAST_ROUNDS = 3;

// Of ratios of which less is worse.
function verdictOfBuilds(ratios) {
  if (ratios.length < LEAST_ROUNDS) return '   not judged';
  if (median(ratios) >= 1 / BOUND || upperQuartile(ratios) >= 1) return '';
  process.exitCode = 1;
  return '   WORSE';
}

function verdict(row, reached) {
  if (row.atLeast) return `   ${reached ? 'enough' : `TOO FEW: at least ${row.atLeast}, take more rounds`}`;
  if (row.goal === null || row.goal === undefined) return '';
  const goal = { more: '>=', less: '>=', largest: '<=', difference: '<=', total: '<=' }[row.how];
  const bound = row.goal === 'stock' ? "stock's" : row.goal;
  return `   goal ${goal} ${bound}: ${reached ? 'reached' : 'MISSED'}`;
}

// samples: { stock: [...], ours: [...] }, the same round at the same index.
function line(bench, row, samples) {
  // Goals are about the stock module; how many rounds are enough is not.
  if (bench.builds) row = { ...row, goal: null };
  const [before, after] = bench.builds ? ['old', 'new'] : ['stock', 'ours'];
  const stock = samples.stock.map(row.of);
  const ours = samples.ours.map(row.of);
  if (![...stock, ...ours].every(Number.isFinite)) throw new Error(`${row.label}: not every round has it`);
  const name = row.label.padEnd(42);
  const show = (value) => value.toFixed(row.digits).padStart(9);
  if (row.how === 'total') {
    const [first, second] = [sum(stock), sum(ours)];
    const bound = row.goal === 'stock' ? first : row.goal;
    const reached = row.atLeast ? Math.min(first, second) >= row.atLeast : second <= bound;
    return `${name} ${before} ${show(first)}   ${after} ${show(second)}   in all${verdict(row, reached)}`;
  }
  const start = `${name} ${before} ${show(median(stock))}   ${after} ${show(median(ours))}   `;
  if (row.how === 'largest') {
    const [first, second] = [stock, ours].map((values) => show(Math.max(...values)).trim());
    return `${start}largest: ${before} ${first}, ${after} ${second}` + verdict(row, Math.max(...ours) <= row.goal);
  }
  if (row.how === 'difference') {
    const differences = ours.map((value, i) => value - stock[i]);
    return `${start}more: ${median(differences).toFixed(row.digits)} ${range(differences, row.digits)}` +
      verdict(row, median(differences) <= row.goal);
  }
  const ratios = ours.map((value, i) => (row.how === 'more' ? value / stock[i] : stock[i] / value));
  const what = row.how === 'more' ? `${after}/${before}` : `${before}/${after}`;
  const judged = bench.builds ? verdictOfBuilds(ratios) : verdict(row, median(ratios) >= row.goal);
  return `${start}${what} ${median(ratios).toFixed(2)} ${range(ratios, 2)}${judged}`;
}

// Only a Node that can load the module is worth measuring: its own words say why it cannot.
function identify(node, module) {
  const code = 'require(process.argv[1]); console.log(process.version)';
  const result = spawnSync(node, ['-e', code, module], { encoding: 'utf8' });
  if (result.status === 0) return result.stdout.trim();
  const why = result.error?.message ?? result.stderr.split('\n').find((text) => /Error/.test(text)) ?? result.stderr;
  throw new Error(`${node} cannot load ${module}: ${why}`);
}

async function measure(bench, figure, rounds) {
  const samples = { stock: [], ours: [] };
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 ? [bench.ours, bench.stock] : [bench.stock, bench.ours];
    for (const contender of order) samples[contender.name].push(await figure.round(bench, contender));
  }
  return figure.rows.map((row) => `  ${line(bench, row, samples)}`).join('\n');
}

async function main(words) {
  const given = /^[1-9]\d*$/.test(words[0]);
  const rounds = given ? Number(words[0]) : 9;
  const names = words.slice(given ? 1 : 0);
  const unknown = names.find((name) => !Object.hasOwn(figures, name));
  if (unknown !== undefined) {
    throw new Error(`no figure '${unknown}'; usage: bench.cjs [rounds] [${Object.keys(figures).join('|')} ...]`);
  }

  const node = process.env.NODE || process.execPath;
  const module = process.env.CLUSTER_MODULE || path.join(__dirname, '..', '..', 'node-addon');
  const against = process.env.CLUSTER_AGAINST ? path.resolve(process.env.CLUSTER_AGAINST) : 'node:cluster';
  const version = identify(node, module);
  identify(node, against);
  const { program, remove } = buildLoad();
  const bench = {
    program,
    builds: against !== 'node:cluster',
    stock: { name: 'stock', node, module: against, engine: against !== 'node:cluster' },
    ours: { name: 'ours', node, module, engine: module !== 'node:cluster' },
  };
  const cpus = os.cpus();
  const average = () => os.loadavg()[0].toFixed(2);
  console.log(`Node ${version}, ${cpus.length} x ${cpus[0].model.trim()}, Linux ${os.release()}, ` +
    `${rounds} rounds, load average ${average()}`);
  if (!bench.ours.engine) console.log('Both are node:cluster: this is the noise, not a result.');
  try {
    for (const name of names.length ? names : Object.keys(figures)) {
      console.log(`\n${name}: ${figures[name].title}`);
      try {
        console.log(await measure(bench, figures[name], rounds));
      } catch (error) {
        console.log(`  NOT MEASURED: ${error.message}`);
        process.exitCode = 1;
      }
    }
    console.log(`\nload average at the end ${average()}, the benchmark's own load included`);
  } finally {
    remove();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
});
