// Sends three spans and a metric with the stock OpenTelemetry SDK: node send.js json|proto|grpc NAME

const { NodeTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-node');
const { MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');
const { resourceFromAttributes } = require('@opentelemetry/resources');

const [protocol, name] = process.argv.slice(2);
const flavour = { json: 'http', proto: 'proto', grpc: 'grpc' }[protocol];
const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${flavour}`);
const { OTLPMetricExporter } = require('@opentelemetry/exporter-metrics-otlp-http');

async function main() {
  const resource = resourceFromAttributes({ 'service.name': name, 'k8s.pod.uid': `uid-of-${name}` });
  const tracers = new NodeTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
  const tracer = tracers.getTracer('sender');
  for (let number = 0; number < 3; number++) {
    tracer.startSpan(`${name} ${number}`, { attributes: { number } }).end();
  }
  await tracers.forceFlush();
  await tracers.shutdown();
  if (protocol === 'json') {
    const reader = new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter() });
    const meters = new MeterProvider({ resource, readers: [reader] });
    meters.getMeter('sender').createCounter(`${name}.count`).add(7);
    await meters.forceFlush();
    await meters.shutdown();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
