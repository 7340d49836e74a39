// Builds the page into src/admin/console/dist, from which the Rust program embeds it. The names of the
// files stay the same, since src/admin/console/assets.rs lists them.
//
// `npx vite` serves the page while it is edited, with the data of the admin listener of a node at
// TOLLGATE_URL.
import { defineConfig } from "vite";

const node = process.env.TOLLGATE_URL ?? "http://127.0.0.1:8082";

export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../src/admin/console/dist",
    emptyOutDir: true,
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        entryFileNames: "assets/console.js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/console[extname]",
      },
    },
  },
  server: {
    proxy: { "^/(console|apikeys|usageplans|restapis|policies|top|nodes|tail|audit|explain)(/|[?]|$)": node },
  },
});
