{{- /* Labels of every object; takes the context and a name. */ -}}
{{- define "shop.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: shop
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{- /* Image of the shop; takes the context and a name. */ -}}
{{- define "shop.image" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end }}weft-shop/{{ index . 1 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{- /* A manifest of examples/shop as it is in this namespace; takes the context and a name. */ -}}
{{- define "shop.manifest" -}}
{{- $root := index . 0 -}}
{{- $root.Files.Get (printf "manifests/%s.yaml" (index . 1)) | replace ".shop.svc" (printf ".%s.svc" $root.Release.Namespace) }}
{{- end }}

{{- /* A password: the one that the Secret has, else a new one; takes the Secret as it is in the cluster and a key. It has
       letters and digits only, since it becomes part of a URL. */ -}}
{{- define "shop.password" -}}
{{- $kept := index (index . 0) (index . 1) | default "" -}}
{{- if $kept }}{{ $kept }}{{ else }}{{ randAlphaNum 32 | b64enc }}{{ end }}
{{- end }}

{{- /* Every service: its database if it has one, whether it uses Redis, and whom it asks over gRPC. */ -}}
{{- define "shop.services" -}}
user: {database: users}
product: {database: products, redis: true}
order: {database: orders, redis: true, neighbours: [user, product, payment]}
ticket: {database: tickets, redis: true, neighbours: [payment]}
chat: {database: chats, redis: true}
payment: {database: payments, redis: true}
notification: {database: notifications, redis: true, neighbours: [user]}
mailbox: {}
{{- end }}

{{- /* The databases, of which each has a role and a password. */ -}}
{{- define "shop.databases" -}}
{{- $names := list }}
{{- range include "shop.services" . | fromYaml }}{{ with .database }}{{ $names = append $names . }}{{ end }}{{ end }}
{{- join " " ($names | sortAlpha) }}
{{- end }}

{{- /* Those that use Redis. */ -}}
{{- define "shop.users-of-redis" -}}
{{- $names := list }}
{{- range $name, $needs := include "shop.services" . | fromYaml }}{{ if $needs.redis }}{{ $names = append $names $name }}{{ end }}{{ end }}
{{- join ", " $names }}
{{- end }}
