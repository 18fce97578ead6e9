"""Which factors SLO attainment depends on."""
