// The same for node --import cluster-rs/register app.js.
import './register.cjs';
