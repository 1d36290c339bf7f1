// Definitions of other projects' kinds that the chart's optional parts use: read out of these modules, never built.
module sealwright.dev/tests/servers/definitions

go 1.26.0

require (
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.4.0
)
