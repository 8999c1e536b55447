"""What the pages for Prometheus say, the rules and the dashboards that read them."""
