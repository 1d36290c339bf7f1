{{/* The name of everything that is the controller's. */}}
{{- define "sealwright.name" -}}
{{- default "seal-controller" .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of the objects; the Service alone is always `seal-controller`, for that is where `seal verify` asks. */}}
{{- define "sealwright.fullname" -}}
{{- default (include "sealwright.name" .) .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "sealwright.serviceAccount" -}}
{{- default (include "sealwright.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "sealwright.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* Who the controller is towards the API server. */}}
{{- define "sealwright.username" -}}
system:serviceaccount:{{ include "sealwright.namespace" . }}:{{ include "sealwright.serviceAccount" . }}
{{- end }}

{{- define "sealwright.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sealwright.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "sealwright.ownLabels" -}}
{{ include "sealwright.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: controller
app.kubernetes.io/part-of: sealwright
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "sealwright.labels" -}}
{{ include "sealwright.labelsAnd" (list . dict) }}
{{- end }}

{{/* The chart's own labels, commonLabels, and those that one object has besides. Selectors go by the chart's own. */}}
{{- define "sealwright.labelsAnd" -}}
{{- $root := index . 0 -}}
{{- $own := include "sealwright.ownLabels" $root | fromYaml -}}
{{- $further := merge dict (index . 1 | default dict) ($root.Values.commonLabels | default dict) -}}
{{- range $label, $_ := $further -}}
{{- if hasKey $own $label }}{{ fail (printf "the label %s is the chart's own: take it out of commonLabels, podLabels or labels" $label) }}{{ end -}}
{{- end -}}
{{- toYaml (merge $own $further) }}
{{- end }}

{{/* A digest beats a tag. */}}
{{- define "sealwright.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end }}

{{/*
keyRing.recovery as a list: it is one already, or the text of files, where lines that start with # are comments.
What is wrong is named by its number and never quoted, for it may be a private key.
*/}}
{{- define "sealwright.recovery" -}}
{{- $given := .Values.keyRing.recovery -}}
{{- $isFile := kindIs "string" $given -}}
{{- if $isFile }}{{ $given = list $given }}{{ end -}}
{{- $recipients := list -}}
{{- range $entry := $given -}}
{{- range $line := splitList "\n" $entry -}}
{{- $line = trim $line -}}
{{- if and $line (not (hasPrefix "#" $line)) -}}{{- $recipients = append $recipients $line -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $isFile (not $recipients) -}}
{{- fail "keyRing.recovery holds no recipient: is the file empty? What `seal keygen` printed stands in recovery.txt too, after `# public key:`" -}}
{{- end -}}
{{- range $index, $recipient := $recipients -}}
{{- $which := printf "keyRing.recovery: entry number %d" (add1 $index) -}}
{{- if hasPrefix "AGE-SECRET-KEY-" (upper $recipient) -}}
{{- fail (printf "%s is a PRIVATE key. It belongs nowhere but offline; take what `seal keygen` printed (age1pq1...)" $which) -}}
{{- else if not (and (eq (len $recipient) 1959) (regexMatch "^age1pq1[02-9ac-hj-np-z]+$" $recipient)) -}}
{{- fail (printf "%s is no recipient. It is the one line that `seal keygen` prints (age1pq1..., 1959 characters)" $which) -}}
{{- end -}}
{{- end -}}
{{- toJson $recipients -}}
{{- end }}

{{/* Where metrics are asked for, and the labels that it adds: the same for both monitors. */}}
{{- define "sealwright.endpoint" -}}
port: http
path: /metrics
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
honorLabels: {{ .honorLabels }}
{{- with .relabelings }}
relabelings:
{{ toYaml . }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
{{ toYaml . }}
{{- end }}
{{- end }}
