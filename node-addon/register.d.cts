/** Patches `node:cluster` in place; exports nothing: `node --require cluster-rs/register app.js`. */
import './index.cjs';
export {};
