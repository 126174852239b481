{{- /* Labels of every object. */ -}}
{{- define "weft.labels" -}}
{{ include "weft.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: weft
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* Labels that pods of the operator are found by; they never change. */ -}}
{{- define "weft.selector" -}}
app.kubernetes.io/name: weft-operator
{{- end }}

{{- define "weft.image" -}}
{{- $name := printf "%s:%s" .repository (.tag | default .version) -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ $name }}
{{- end }}

{{- define "weft.operatorImage" -}}
{{- $i := .Values.image -}}
{{- include "weft.image" (dict "registry" $i.registry "repository" $i.repository "tag" $i.tag "version" .Chart.AppVersion) }}
{{- end }}

{{- define "weft.proxyImage" -}}
{{- $i := .Values.proxy.image -}}
{{- $tag := $i.tag | default .Values.image.tag -}}
{{- include "weft.image" (dict "registry" .Values.image.registry "repository" $i.repository "tag" $tag "version" .Chart.AppVersion) }}
{{- end }}

{{- /* Namespaces whose pods never get a proxy. */ -}}
{{- define "weft.neverMeshed" -}}
[kube-system, kube-node-lease, kube-public, weft-system]
{{- end }}

{{- /* Metadata by which cert-manager finds webhook configurations. The caBundle is never in this chart: the operator (or
cert-manager) writes it, and an upgrade leaves alone what the chart does not name. */ -}}
{{- define "weft.webhookAnnotations" -}}
{{- if .Values.webhook.certManager.enabled -}}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/weft-webhook
{{- end }}
{{- end }}

{{- define "weft.webhookClient" -}}
clientConfig:
  service: {namespace: {{ .root.Release.Namespace }}, name: weft-operator, path: {{ .path }}, port: 443}
admissionReviewVersions: [v1]
sideEffects: None
timeoutSeconds: {{ .root.Values.webhook.timeoutSeconds }}
matchPolicy: Equivalent
{{- end }}
