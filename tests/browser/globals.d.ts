// What scripts that are no modules put beside the page's own.
interface Window {
  Plotly: {
    react(id: string, data: unknown[], layout: unknown, config: unknown): Promise<unknown>;
    purge(id: string): void;
  };
  ui: unknown;
}
declare function SwaggerUIBundle(options: Record<string, unknown>): unknown;
