/** Patches `node:cluster` in place; exports nothing: `node --import cluster-rs/register app.js`. */
import './index.cjs';
export {};
